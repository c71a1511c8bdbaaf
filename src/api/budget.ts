import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { awakeMs } from '../call/index.ts';

/** A connection, as far as the memory that it holds goes. */
export interface Holder {
  /** Bytes of its requests that are not yet answered, and of its answers that have not left. */
  readonly held: number;
  /** Since when its oldest unfinished request or unread answer waits, in `awakeMs()`; undefined when it has none. */
  readonly waitingSince: number | undefined;
  /** When a call of it was last answered and the answer left, in `awakeMs()`. */
  readonly lastAnswered: number;
  /** Ends the connection at once. It holds nothing afterwards. */
  cut(why: string): void;
  /** Ends its oldest unfinished request. False when it has none. */
  cutOldestRequest(): boolean;
}

/** Bytes of requests and answers that all connections may hold together. */
const BUDGET_BYTES = 128 << 20;

/** A connection that had an answer so recently is a client at work, and is not closed for the memory that it holds. */
const AT_WORK_MS = 10_000;

/** How often the process's memory is looked at, in milliseconds, and by which factor it has to have grown. */
const RECLAIM_MS = 10_000;
const GROWTH = 1.25;

/** A whole collection of garbage, some tens of milliseconds: Node shows it to a context of its own only. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  setFlagsFromString('--no-expose-gc');
}

/**
 * The memory of all connections' requests and answers, and who has to go when it is used up: the connection that has kept
 * an unfinished request or an unread answer for longest. CredHub has one connection and may well hold most, so neither
 * the amount decides, nor is a connection closed on which calls have been answered lately. Whole requests are refused
 * while the budget is used up (`full`).
 */
export class Budget {
  readonly #limit: number;
  readonly #holders = new Set<Holder>();
  #held = 0;
  /** Resident memory of the process after the last collection, in bytes. */
  #settled = 0;
  readonly #watch: NodeJS.Timeout;

  constructor(limit = BUDGET_BYTES) {
    this.#limit = limit;
    this.#watch = setInterval(() => this.#reclaim(), RECLAIM_MS);
    this.#watch.unref();
  }

  get held(): number {
    return this.#held;
  }

  get full(): boolean {
    return this.#held > this.#limit;
  }

  enter(holder: Holder): void {
    this.#holders.add(holder);
  }

  /** The connection is closed: what it held is free. */
  leave(holder: Holder): void {
    if (this.#holders.delete(holder)) this.give(holder.held);
  }

  /** @param bytes - more that a holder has; it counts them itself before. */
  take(bytes: number): void {
    this.#held += bytes;
    while (this.full && this.#relieve());
  }

  give(bytes: number): void {
    this.#held -= bytes;
  }

  /** Ends what looks at the process's memory. */
  close(): void {
    clearInterval(this.#watch);
  }

  /**
   * V8 collects when something is allocated: a flood's garbage would stay until then, and count for the container's limit.
   * So it is collected when the flood is over and the process has grown since the last time.
   */
  #reclaim(): void {
    if (this.#held > this.#limit / 4 || process.memoryUsage.rss() < this.#settled * GROWTH) return;
    if (this.#settled > 0) collectGarbage();
    this.#settled = process.memoryUsage.rss();
  }

  /** False when nobody is left who has to go. */
  #relieve(): boolean {
    const now = awakeMs();
    const waiting = [...this.#holders]
      .filter(({ waitingSince }) => waitingSince !== undefined)
      .sort((one, other) => (one.waitingSince ?? 0) - (other.waitingSince ?? 0));
    const leaving = waiting.find(({ lastAnswered }) => now - lastAnswered > AT_WORK_MS);
    if (leaving !== undefined) {
      leaving.cut('the memory for requests and answers is used up, and its oldest one has waited longest');
      return true;
    }
    return waiting.some((holder) => holder.cutOldestRequest());
  }
}
