import type { LogLevelReport } from '../control/index.ts';
import type { Logger, LogLevel } from '../log/index.ts';
import { guarded } from '../guard/index.ts';

/** The log's level: the configured one, or for a while the one that an operator asked for. */
export class LevelSwitch {
  readonly #log: Logger;
  #configured: LogLevel;
  #back: NodeJS.Timeout | undefined;

  constructor(log: Logger, configured: LogLevel) {
    this.#log = log;
    this.#configured = configured;
  }

  /** From the configuration file. An unchanged file does not undo what an operator has set. */
  configure(level: LogLevel): void {
    if (level === this.#configured) return;
    this.#configured = level;
    this.#set(level);
  }

  /** By an operator, until the next restart or for `forMs` milliseconds. */
  set(level: LogLevel, forMs: number | undefined): LogLevelReport {
    this.#set(level);
    if (forMs === undefined) return { level };
    this.#back = setTimeout(
      guarded(this.#log, 'setting the log level back', () => this.#set(this.#configured)),
      forMs,
    );
    this.#back.unref();
    return { level, until: new Date(Date.now() + forMs).toISOString() };
  }

  #set(level: LogLevel): void {
    clearTimeout(this.#back);
    const before = this.#log.level;
    if (before === level) return;
    // Said at whichever level lets it through.
    if (before === 'error' || before === 'warn') this.#log.setLevel(level);
    this.#log.info('log level changed', { from: before, to: level });
    this.#log.setLevel(level);
  }
}
