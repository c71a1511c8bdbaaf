/** Pauses before a successor of a crashed token process in milliseconds, by the number of crashes of late. */
const PAUSES_MS: readonly number[] = [0, 0, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000];
const MEMORY_MS = 60_000;
/** From this pause on calls fail at once instead of waiting for the successor. */
const AWAY_FROM_MS = 1_000;

/** The crashes of the last minute, and how long to wait before the next attempt because of them. */
export class Crashes {
  #times: number[] = [];

  /** @param now - `performance.now()`. */
  add(now: number): void {
    this.#times = [...this.#recent(now), now];
  }

  /** The pause before the next process in milliseconds, jittered by a quarter; `away`: too long to wait for it. */
  pause(now: number): { readonly ms: number; readonly away: boolean } {
    const pause = PAUSES_MS[Math.min(this.#recent(now).length, PAUSES_MS.length - 1)] ?? 0;
    return { ms: pause * (0.75 + Math.random() / 2), away: pause >= AWAY_FROM_MS };
  }

  #recent(now: number): number[] {
    return this.#times.filter((at) => now - at < MEMORY_MS);
  }
}
