import type { TokenReport } from '../types.ts';
import type { StateEvent } from '../wire/messages.ts';
import type { AvailabilityGate } from './availability.ts';

type Details = Omit<StateEvent['details'], 'stage'>;

/** What is known of the token, for reports and the log: from its processes, the earlier ones included. */
export class TokenRecord {
  readonly #modulePath: string;
  /** Of an earlier process, until its successor says something. */
  #details: Details = {};
  #sessions: TokenReport['sessions'];
  #lastGood: number | undefined;
  #lastError: TokenReport['lastError'];

  /** @param modulePath stands for the module until that has told of itself. */
  constructor(modulePath: string) {
    this.#modulePath = modulePath;
  }

  /** What names the token in a line of the log. */
  get names(): Record<string, unknown> {
    const { token, profile } = this.#details;
    return { partition: token?.label, serial: token?.serial, profile };
  }

  learn(details: Details): void {
    this.#details = { ...this.#details, ...details };
    if (details.sessions !== undefined) this.#sessions = details.sessions;
  }

  /** The sessions of now; undefined while the process has no token. */
  counted(sessions: TokenReport['sessions']): void {
    this.#sessions = sessions;
  }

  /** @param now of a good answer, in `performance.now()` milliseconds. */
  good(now: number): void {
    this.#lastGood = now;
  }

  failed(message: string): void {
    this.#lastError = { at: new Date().toISOString(), message };
  }

  report(gate: AvailabilityGate, process: TokenReport['process']): TokenReport {
    const { module, token, profile } = this.#details;
    return {
      state: gate.state,
      reason: gate.reason,
      ...(gate.stage === undefined ? {} : { stage: gate.stage }),
      since: gate.since.toISOString(),
      process,
      module: module ?? { path: this.#modulePath },
      ...(token === undefined ? {} : { token }),
      ...(profile === undefined ? {} : { profile }),
      ...(this.#sessions === undefined ? {} : { sessions: this.#sessions }),
      ...(this.#lastError === undefined ? {} : { lastError: this.#lastError }),
      ...(this.#lastGood === undefined
        ? {}
        : { lastGood: new Date(performance.timeOrigin + this.#lastGood).toISOString() }),
    };
  }
}
