import { awakeMs } from '../call/index.ts';

/** The calls that are with the keyring, and when it last answered one well. */
export class Progress {
  /** Since when, in the order of their beginning; in `awakeMs()`: while this process is stopped nobody stalls. */
  readonly #attempts = new Map<object, number>();
  #lastGood = -Infinity;

  begun(attempt: object): void {
    this.#attempts.set(attempt, awakeMs());
  }

  ended(attempt: object, well: boolean): void {
    this.#attempts.delete(attempt);
    if (well) this.#lastGood = awakeMs();
  }

  /** How long the oldest of them has seen no call answered well; 0 when there is none. */
  stalledMs(): number {
    const [oldest] = this.#attempts.values();
    return oldest === undefined ? 0 : awakeMs() - Math.max(oldest, this.#lastGood);
  }
}
