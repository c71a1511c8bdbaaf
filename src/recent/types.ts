/** The failures of one code. */
export interface RecentError {
  readonly code: string;
  readonly count: number;
  /** The keys that were asked for, 32 hex digits each, where the failures name them; the first few. */
  readonly keyIds?: readonly string[];
}

/** Encrypt and Decrypt over some minutes; what needs no HSM (Status, Version, health) is left out. */
export interface RecentWindow {
  /** Length in minutes; less after a start. */
  readonly minutes: number;
  readonly requests: number;
  /** Requests that failed, without those about foreign ciphertexts. */
  readonly errors: number;
  /** The errors by code (docs/errors.md), the most frequent first. */
  readonly errorCodes: readonly RecentError[];
  /** Ciphertexts that are none of this plugin's (KMS-4001): CredHub asks about the internal provider's at every start. */
  readonly foreign?: number;
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
