/** Encrypt and Decrypt over some minutes; what needs no HSM (Status, Version, health) is left out. */
export interface RecentWindow {
  /** Length in minutes; less after a start. */
  readonly minutes: number;
  readonly requests: number;
  /** Requests that did not end in OK. */
  readonly errors: number;
  /** The errors by code (docs/errors.md), the most frequent first. */
  readonly errorCodes: readonly { readonly code: string; readonly count: number }[];
  /** Milliseconds within which half of the requests, 99 in 100, and all were answered; absent without requests. */
  readonly p50Ms?: number;
  readonly p99Ms?: number;
  readonly maxMs?: number;
}

/** The last 5 and the last 60 minutes. */
export interface RecentReport {
  readonly last5: RecentWindow;
  readonly last60: RecentWindow;
}
