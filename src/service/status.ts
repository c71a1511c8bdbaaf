import type { ApiServer } from '../api/index.ts';
import type { Config } from '../config/index.ts';
import type { ReloadReport, StatusReport } from '../control/index.ts';
import type { RecentReport } from '../recent/index.ts';
import type { Token } from '../token/index.ts';
import type { OwnedKeyring } from './hsm-side.ts';

/** What a status report is made of. */
export interface StatusParts {
  readonly version: string;
  readonly started: Date;
  readonly config: Config;
  readonly logLevel: string;
  readonly keyring: OwnedKeyring;
  readonly token: Token;
  readonly api: ApiServer;
  readonly recent: RecentReport;
  readonly lastReload: ReloadReport | undefined;
  /** Beside the configuration's own. */
  readonly warnings: readonly string[];
}

/** All that the rooms report, from memory: neither the HSM nor the disk is asked. */
export function statusReport(parts: StatusParts): StatusReport {
  return {
    version: parts.version,
    pid: process.pid,
    started: parts.started.toISOString(),
    uptimeSeconds: Math.floor((Date.now() - parts.started.getTime()) / 1000),
    configFile: parts.config.file,
    logLevel: parts.logLevel,
    health: parts.keyring.health(),
    listeners: parts.api.listeners(),
    keys: parts.keyring.keys(),
    token: parts.token.report(),
    calls: parts.api.calls(),
    recent: parts.recent,
    dataKeys: parts.keyring.dataKeys(),
    warnings: [...parts.config.warnings, ...parts.warnings],
    ...(parts.lastReload === undefined ? {} : { lastReload: parts.lastReload }),
  };
}
