/** How repeats are held back. */
export interface RepeatTimes {
  /** One line of a kind in this many milliseconds at first. */
  readonly windowMs: number;
  /** The pause doubles while a kind goes on saying the same, up to this many milliseconds. */
  readonly longestMs: number;
}

/**
 * One line for each kind of error in a time, with a count of those left out: a failing HSM under load must not fill the
 * disk with a thousand equal lines a second. What goes on saying the same is said after longer and longer pauses; what is
 * news within its kind does not wait for their end.
 */
export class Repeats<Line> {
  readonly #emit: (line: Line, leftOut: number) => void;
  readonly #sense: (line: Line) => string;
  readonly #times: RepeatTimes;
  readonly #mostKinds: number;
  readonly #windows = new Map<string, Window<Line>>();

  /**
   * @param emit - writes a line; `leftOut` is how many of its kind were left out before it.
   * @param sense - what a line says: equal for two that tell an operator the same.
   * @param mostKinds - kinds watched at once; the rest share one window, so that memory is bounded.
   */
  constructor(
    emit: (line: Line, leftOut: number) => void,
    sense: (line: Line) => string,
    times: RepeatTimes,
    mostKinds = 500,
  ) {
    this.#emit = emit;
    this.#sense = sense;
    this.#times = times;
    this.#mostKinds = mostKinds;
  }

  /** Writes the line, or keeps it as the newest of its kind, to be written with the count when the time is up. */
  offer(kind: string, line: Line): void {
    const key = this.#windows.has(kind) || this.#windows.size < this.#mostKinds ? kind : '';
    const window = this.#windows.get(key);
    const { windowMs } = this.#times;
    if (window === undefined) {
      this.#windows.set(key, {
        timer: this.#timer(key, windowMs),
        ms: windowMs,
        told: this.#sense(line),
        newest: undefined,
        held: 0,
      });
      this.#emit(line, 0);
      return;
    }
    window.newest = line;
    window.held++;
    if (window.ms > windowMs && this.#sense(line) !== window.told) {
      clearTimeout(window.timer);
      window.ms = windowMs;
      window.timer = this.#timer(key, windowMs);
    }
  }

  /** Writes what is held back, now: before the process ends. */
  flush(): void {
    for (const window of this.#windows.values()) {
      clearTimeout(window.timer);
      this.#tell(window);
    }
    this.#windows.clear();
  }

  /** The time is up: a kind that went on gets its line and another window, one that stopped is forgotten. */
  #close(key: string): void {
    const window = this.#windows.get(key);
    if (window === undefined) return;
    const { told, newest } = window;
    if (newest === undefined) {
      this.#windows.delete(key);
      return;
    }
    const { windowMs, longestMs } = this.#times;
    window.ms = this.#sense(newest) === told ? Math.min(longestMs, 2 * window.ms) : windowMs;
    this.#tell(window);
    window.timer = this.#timer(key, window.ms);
  }

  #tell(window: Window<Line>): void {
    const { newest, held } = window;
    if (newest === undefined) return;
    this.#emit(newest, held - 1);
    window.told = this.#sense(newest);
    window.newest = undefined;
    window.held = 0;
  }

  #timer(key: string, milliseconds: number): NodeJS.Timeout {
    return setTimeout(() => this.#close(key), milliseconds).unref();
  }
}

interface Window<Line> {
  timer: NodeJS.Timeout;
  /** How long this window is. */
  ms: number;
  /** What the line of this kind said that was written last. */
  told: string;
  newest: Line | undefined;
  held: number;
}
