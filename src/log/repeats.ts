/**
 * One line for each kind of error in a time, with a count of those left out: a failing HSM under load must not fill the
 * disk with a thousand equal lines a second.
 */
export class Repeats<Line> {
  readonly #emit: (line: Line, leftOut: number) => void;
  readonly #windowMs: number;
  readonly #mostKinds: number;
  readonly #windows = new Map<string, Window<Line>>();

  /**
   * @param emit - writes a line; `leftOut` is how many of its kind were left out before it.
   * @param windowMs - one line of a kind in this time.
   * @param mostKinds - kinds watched at once; the rest share one window, so that memory is bounded.
   */
  constructor(emit: (line: Line, leftOut: number) => void, windowMs: number, mostKinds = 500) {
    this.#emit = emit;
    this.#windowMs = windowMs;
    this.#mostKinds = mostKinds;
  }

  /** Writes the line, or keeps it as the newest of its kind, to be written with the count when the time is up. */
  offer(kind: string, line: Line): void {
    const key = this.#windows.has(kind) || this.#windows.size < this.#mostKinds ? kind : '';
    const window = this.#windows.get(key);
    if (window !== undefined) {
      window.newest = line;
      window.held++;
      return;
    }
    const timer = setTimeout(() => this.#close(key), this.#windowMs);
    timer.unref();
    this.#windows.set(key, { timer, newest: undefined, held: 0 });
    this.#emit(line, 0);
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
    if (window.held === 0) {
      this.#windows.delete(key);
      return;
    }
    this.#tell(window);
    window.timer = setTimeout(() => this.#close(key), this.#windowMs);
    window.timer.unref();
  }

  #tell(window: Window<Line>): void {
    if (window.newest !== undefined) this.#emit(window.newest, window.held - 1);
    window.newest = undefined;
    window.held = 0;
  }
}

interface Window<Line> {
  timer: NodeJS.Timeout;
  newest: Line | undefined;
  held: number;
}
