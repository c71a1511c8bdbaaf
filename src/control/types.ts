import type { CallCounts, ListenerReport } from '../api/index.ts';
import type { DataKeyReport } from '../cipher/index.ts';
import type { FoundKeyReport, KeyReport, KeyringHealth } from '../keyring/index.ts';
import type { LogLevel } from '../log/index.ts';
import type { RecentReport } from '../recent/index.ts';
import type { PinRecord, TokenReport } from '../token/index.ts';

export type { CallCounts, ListenerReport } from '../api/index.ts';

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
  /** Encrypt and Decrypt over the last 5 and 60 minutes. */
  readonly recent: RecentReport;
  /** Of the envelope scheme, and of values that are too large for one HSM call. */
  readonly dataKeys: DataKeyReport;
  /** What needs an operator's look, e.g. create: true left in. */
  readonly warnings: readonly string[];
  /** The result of the last reload, if any. */
  readonly lastReload?: ReloadReport;
}

/** What came of `kms-plugin reload` (POST /v1/reload) or a SIGHUP. */
export interface ReloadReport {
  readonly at: string;
  /** False: the new configuration is faulty and the old one goes on. */
  readonly ok: boolean;
  readonly problems: readonly string[];
  /** Changes that are in force now: properties, and certificates that were renewed under the same name. */
  readonly taken: readonly string[];
  /** What is allowed in the file but should be looked at. */
  readonly warnings: readonly string[];
  /** Changes that are in the file but take effect only after a restart. */
  readonly needsRestart: readonly string[];
}

/** The answer to POST /v1/log-level. */
export interface LogLevelReport {
  readonly level: LogLevel;
  /** ISO time at which the configured level comes back; absent when it stays. */
  readonly until?: string;
}

/** The answer to POST /v1/keys/create. */
export interface CreatedKey {
  readonly label: string;
  /** Whether the running configuration lists the label. */
  readonly listed: boolean;
  readonly key: FoundKeyReport;
}

/** The answer to POST /v1/pin/clear. */
export interface PinsCleared {
  /** How many PINs were remembered and are not any more. */
  readonly forgotten: number;
}

/** What the running service does for the control socket. */
export interface ControlHandlers {
  status(): StatusReport;
  /** The listed keys, after a search of the token now where it can be had. */
  keys(): Promise<readonly KeyReport[]>;
  /** Makes a key that the token lacks, listed or not. */
  createKey(label: string): Promise<CreatedKey>;
  /** Looks on the token for the keys under a label, listed or not. */
  inspectKey(label: string): Promise<KeyReport>;
  /** @param forMs - after this many milliseconds the configured level comes back. */
  setLogLevel(level: LogLevel, forMs: number | undefined): LogLevelReport;
  pins(): Promise<readonly PinRecord[]>;
  /** Forgets what is remembered of PINs, of one token (by serial) or of all, and tries the token again. */
  clearPins(serial: string | undefined): Promise<PinsCleared>;
  reload(): Promise<ReloadReport>;
}
