/** How often this process looks whether it has been stopped, in milliseconds. */
const TICK_MS = 250;
/** Later than that and it was stopped (SIGSTOP, a suspended VM), or had no processor: nobody could have been heard. */
const LATE_MS = 1_000;

/**
 * A clock that counts only the time in which this process could listen. Silence is measured by it: after half a minute in
 * which everything stood still, everybody has been silent, and nobody hangs. Deadlines are not: the caller's time has passed.
 */
export class AwakeClock {
  readonly #now: () => number;
  #last: number;
  #stopped = 0;

  /**
   * @param now - milliseconds of a clock that goes on while the process stands still.
   */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#last = now();
  }

  /** Milliseconds, never more of them than `performance.now()` counts. */
  now(): number {
    const now = this.#now();
    const gap = now - this.#last;
    if (gap > TICK_MS + LATE_MS) this.#stopped += gap - TICK_MS;
    this.#last = now;
    return now - this.#stopped;
  }

  /** Looks from now on, without keeping the process alive. */
  start(): this {
    setInterval(() => void this.now(), TICK_MS).unref();
    return this;
  }
}

let clock: AwakeClock | undefined;

/** The time for which this process has been awake since the first call, in milliseconds; for differences only. */
export const awakeMs = (): number => (clock ??= new AwakeClock().start()).now();
