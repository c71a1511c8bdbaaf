import type { TokenReport } from '../types.ts';
import type { AliveEvent, StateEvent } from '../wire/messages.ts';
import type { AvailabilityGate } from './availability.ts';

type Details = Omit<StateEvent['details'], 'stage'>;
type Lasting = Omit<Details, 'sessions'>;

/** What is known of the token, for reports and the log: from its processes, the earlier ones included. */
export class TokenRecord {
  readonly #modulePath: string;
  /** Of an earlier process, until its successor says something. */
  #details: Lasting = {};
  #sessions: TokenReport['sessions'];
  #pinFile: string | undefined;
  #lastGood: number | undefined;
  #lastError: TokenReport['lastError'];

  /** @param modulePath - stands for the module until that has told of itself. */
  constructor(modulePath: string) {
    this.#modulePath = modulePath;
  }

  /** What names the token in a line of the log. */
  get names(): Record<string, unknown> {
    const { token, profile } = this.#details;
    return { partition: token?.label, serial: token?.serial, profile };
  }

  /** @param details - what a process says of itself and its token; what it leaves out is as before. */
  learn({ sessions, ...details }: Details): void {
    this.#details = { ...this.#details, ...details };
    if (sessions !== undefined) this.#sessions = sessions;
  }

  /** What a process says every second. @returns what is wrong with the PIN file, once. */
  alive({ sessions, flags, pinFile }: AliveEvent): string | undefined {
    this.#sessions = sessions;
    const { token } = this.#details;
    if (token !== undefined && flags !== undefined) this.#details = { ...this.#details, token: { ...token, flags } };
    const isNew = pinFile !== this.#pinFile;
    this.#pinFile = pinFile;
    return isNew ? pinFile : undefined;
  }

  /** @param now - of a good answer, in `performance.now()` milliseconds. */
  good(now: number): void {
    this.#lastGood = now;
  }

  /** @param message - what failed, in the operator's words. */
  failed(message: string): void {
    this.#lastError = { at: new Date().toISOString(), message };
  }

  /** @param gate - the token's state and the reason for it. */
  report(gate: AvailabilityGate, process: TokenReport['process']): TokenReport {
    return {
      state: gate.state,
      reason: gate.reason,
      ...(gate.stage === undefined ? {} : { stage: gate.stage }),
      since: gate.since.toISOString(),
      process,
      module: { path: this.#modulePath },
      ...this.#details,
      ...(this.#sessions === undefined ? {} : { sessions: this.#sessions }),
      ...(this.#pinFile === undefined ? {} : { pinFile: this.#pinFile }),
      ...(this.#lastError === undefined ? {} : { lastError: this.#lastError }),
      ...(this.#lastGood === undefined
        ? {}
        : { lastGood: new Date(performance.timeOrigin + this.#lastGood).toISOString() }),
    };
  }
}
