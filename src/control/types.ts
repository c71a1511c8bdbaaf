import type { KeyReport, KeyringHealth } from '../keyring/index.ts';
import type { TokenReport } from '../token/index.ts';

/** One listener as operators see it. */
export interface ListenerReport {
  readonly name: string;
  /** As configured: a path or unix:///@name. */
  readonly endpoint: string;
  readonly apis: readonly string[];
  readonly tls: boolean;
  readonly connections: number;
  /** ISO time at which the served certificate runs out; only with TLS. */
  readonly certificateExpires?: string;
}

/** Calls as the API room counts them since start. */
export interface CallCounts {
  readonly inFlight: number;
  readonly queued: number;
  /** Waiting on a patient connection. */
  readonly waiting: number;
  /** One row for each API, method and gRPC status name. */
  readonly finished: readonly { readonly api: string; readonly method: string; readonly status: string; readonly count: number }[];
}

/** The answer to GET /v1/status on the control socket, and what `kms-plugin status --json` prints. */
export interface StatusReport {
  readonly version: string;
  readonly pid: number;
  readonly started: string;
  readonly uptimeSeconds: number;
  readonly configFile: string;
  readonly logLevel: string;
  readonly health: KeyringHealth;
  readonly listeners: readonly ListenerReport[];
  readonly keys: readonly KeyReport[];
  readonly token: TokenReport;
  readonly calls: CallCounts;
  /** What needs an operator's look, e.g. create: true left in. */
  readonly warnings: readonly string[];
  /** The result of the last SIGHUP, if any. */
  readonly lastReload?: { readonly at: string; readonly ok: boolean; readonly problems: readonly string[] };
}
