import type { DataKeyReport } from '../cipher/index.ts';
import type { LimitsConfig } from '../config/index.ts';
import type { StatusReport } from '../control/index.ts';
import type { Versions } from '../version/index.ts';

/** What the rooms report at one moment, all of it from memory: a scrape asks neither the HSM nor waits for anything. */
export interface Snapshot {
  readonly versions: Versions;
  readonly status: StatusReport;
  readonly live: boolean;
  readonly ready: boolean;
  readonly limits: LimitsConfig;
  readonly dataKeys: DataKeyReport;
  /** Encryptions under that key id whose IV this side chose. */
  ivCount(keyId: string): number;
  /** Known-answer calls that health has made for itself. */
  readonly probes: { readonly answered: number; readonly failed: number };
  /** Lines of the audit trail since the start; undefined when it is off. */
  readonly audit: { readonly written: number; readonly lost: number } | undefined;
}
