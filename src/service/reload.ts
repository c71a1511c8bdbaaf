import {
  asFarAsLive,
  ConfigError,
  describeChanges,
  describeProblem,
  loadConfig,
  type Config,
} from '../config/index.ts';
import type { ReloadReport } from '../control/index.ts';
import { FAULTS } from '../errors/index.ts';
import type { Log } from '../log/index.ts';

/** What takes over a new configuration while running. */
export interface Reloadable {
  readonly api: {
    reload(listeners: Config['listeners'], limits: Config['limits']): Promise<void>;
    listeners(): readonly { readonly name: string; readonly certificateExpires?: string }[];
  };
  readonly keyring: { reload(config: Config): void };
  readonly level: { configure(level: Config['log']['level']): void };
  readonly audit: { use(file: string | undefined): void };
}

/**
 * The configuration that the service runs on, and its exchange at `kms-plugin reload` or SIGHUP: a faulty file changes nothing. What only a
 * restart can change stays as it is and is named until the restart.
 */
export class Configuration {
  readonly #log: Log;
  #running: Config;
  #last: ReloadReport | undefined;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(config: Config, log: Log) {
    this.#running = config;
    this.#log = log;
  }

  get running(): Config {
    return this.#running;
  }

  get lastReload(): ReloadReport | undefined {
    return this.#last;
  }

  /** Loads the file again and hands it on; one reload after the other. Never rejects. */
  reload(parts: Reloadable): Promise<ReloadReport> {
    const done = this.#queue.then(async () => {
      const result = await this.#exchange(parts);
      this.#last = { at: new Date().toISOString(), ...result };
      this.#tell(this.#last);
      return this.#last;
    });
    this.#queue = done;
    return done;
  }

  async #exchange(parts: Reloadable): Promise<Omit<ReloadReport, 'at'>> {
    try {
      const next = loadConfig(this.#running.file);
      const taken = asFarAsLive(this.#running, next);
      const { live } = describeChanges(this.#running, taken);
      const { needsRestart } = describeChanges(taken, next);
      const before = certificates(parts.api);
      // Certificates can still be refused here, so they come first: all or nothing.
      await parts.api.reload(taken.listeners, taken.limits);
      parts.keyring.reload(taken);
      parts.level.configure(taken.log.level);
      if (taken.auditFile !== this.#running.auditFile) parts.audit.use(taken.auditFile);
      this.#running = taken;
      const renewed = [...certificates(parts.api)].filter(([name, expires]) => before.get(name) !== expires);
      const named = renewed.map(([name, expires]) => `listeners[${name}]: another certificate, until ${expires}`);
      return { ok: true, problems: [], taken: [...live, ...named], warnings: taken.warnings, needsRestart };
    } catch (error) {
      const problems = error instanceof ConfigError ? error.problems.map(describeProblem) : [(error as Error).message];
      return { ok: false, problems, taken: [], warnings: [], needsRestart: [] };
    }
  }

  #tell({ ok, problems, warnings, needsRestart }: ReloadReport): void {
    const file = this.#running.file;
    const { code } = FAULTS.configuration;
    for (const problem of problems) {
      this.#log.error(`new configuration not taken: ${problem}`, { code, kind: problem, file });
    }
    if (!ok) {
      this.#log.error('the old configuration goes on; mend the file and run kms-plugin reload again', { code, file });
      return;
    }
    for (const property of needsRestart) {
      this.#log.warn(`${property} has changed in the file and takes effect only after a restart`, { file });
    }
    for (const warning of warnings) this.#log.warn(warning, { file });
    this.#log.info('new configuration taken', { file });
  }
}

const certificates = (api: Reloadable['api']): ReadonlyMap<string, string> =>
  new Map(
    api
      .listeners()
      .flatMap(({ name, certificateExpires }) =>
        certificateExpires === undefined ? [] : [[name, certificateExpires]],
      ),
  );
