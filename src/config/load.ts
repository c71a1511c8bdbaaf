import path from 'node:path';
import { assemble } from './assemble.ts';
import { checkAudit } from './check/audit.ts';
import { checkKeys } from './check/keys.ts';
import { checkHealth, checkLimits, checkScheme } from './check/limits.ts';
import { checkListeners } from './check/listeners.ts';
import { checkState, controlSocketIn } from './check/state.ts';
import { checkToken } from './check/token.ts';
import { ConfigError, Sheet, type Problem } from './problems.ts';
import { readDocument } from './read/document.ts';
import { readFields, type FileDraft } from './schema.ts';
import type { Config } from './types.ts';

export interface ConfigCheck {
  /** Only when there are no problems. */
  readonly config?: Config;
  readonly problems: readonly Problem[];
  /** Settings that cannot both be meant. `serve` knows which one to follow and goes on; whoever checks the file fails. */
  readonly contradictions: readonly Problem[];
  /** What is allowed but should be looked at, one line each. */
  readonly warnings: readonly string[];
}

/**
 * Reads and checks the configuration file and everything that it names. Nothing is made, changed, locked or connected
 * to; of the PIN file only the size and the last byte are read.
 *
 * @throws ConfigError with all problems, in the order of the file's lines.
 */
export function loadConfig(file: string): Config {
  const { config, problems, warnings } = checkConfig(file);
  if (config === undefined) throw new ConfigError(path.resolve(file), problems, warnings);
  return config;
}

/** Like `loadConfig`, for those who want warnings beside problems; throws nothing. */
export function checkConfig(file: string): ConfigCheck {
  const sheet = sheetFor(file);
  const document = readDocument(sheet);
  const draft = document === undefined ? undefined : readFields(document, '', sheet);
  if (draft !== undefined) checkAll(draft, sheet);
  const { contradictions } = sheet;
  if (draft !== undefined && sheet.problems.length === 0) {
    return { config: assemble(draft, sheet), problems: [], contradictions, warnings: sheet.warnings };
  }
  const problems = sheet.problems.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0));
  return { problems, contradictions, warnings: sheet.warnings };
}

/** Where the running service of a configuration is found. */
export interface ServicePlace {
  readonly stateDir: string;
  readonly controlSocket: string;
  /** Certificates of its listeners, which may be at fault. */
  readonly certificateFiles: readonly string[];
}

/**
 * Reads only where the service's state and control socket are, for commands that ask a running service: one whose
 * certificate has run out, or whose file has been edited badly since, can still be asked.
 *
 * @throws ConfigError when the file cannot be read or those two settings are at fault.
 */
export function locateService(file: string): ServicePlace {
  const sheet = sheetFor(file);
  const document = readDocument(sheet);
  const draft = document === undefined ? undefined : readFields(document, '', sheet);
  const { state_dir: stateDir, control_socket: controlSocket } = draft ?? {};
  if (stateDir !== undefined && controlSocket !== undefined) {
    const certificates = (draft?.listeners ?? []).map(({ value }) => value.tls?.certificate);
    return {
      stateDir,
      controlSocket: controlSocket ?? controlSocketIn(stateDir),
      certificateFiles: certificates.filter((file) => file !== undefined),
    };
  }
  const place = ['state_dir', 'control_socket'];
  const problems = sheet.problems.filter(({ property }) => draft === undefined || place.includes(property));
  throw new ConfigError(sheet.file, problems);
}

/** A link's own directory counts, not its target's: BOSH and Kubernetes both put links where the files are wanted. */
function sheetFor(file: string): Sheet {
  const absolute = path.resolve(file);
  return new Sheet(absolute, path.dirname(absolute));
}

function checkAll(draft: FileDraft, sheet: Sheet): void {
  checkState(draft, sheet);
  checkListeners(draft, sheet);
  checkToken(draft, sheet);
  checkKeys(draft, sheet);
  checkScheme(draft, sheet);
  checkLimits(draft, sheet);
  checkHealth(draft, sheet);
  checkAudit(draft, sheet);
}
