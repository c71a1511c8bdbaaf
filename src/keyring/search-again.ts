import { setTimeout as sleep } from 'node:timers/promises';
import { abandonable, type Call, ownCall } from '../call/index.ts';

/** A token is searched at most once in this many milliseconds, however many calls miss a key. */
const INTERVAL_MS = 1_000;
const SEARCH_MS = 10_000;

/** Searches the token again for calls that miss a key: each gets a search that began after it came, shared with others. */
export class SearchAgain {
  readonly #run: (call: Call) => Promise<void>;
  #next: Promise<void> | undefined;
  #lastStart = -Infinity;

  constructor(run: (call: Call) => Promise<void>) {
    this.#run = run;
  }

  /** Throws what the search throws, and the call's own end. */
  now(call: Call): Promise<void> {
    this.#next ??= this.#schedule();
    return abandonable(this.#next, call.signal);
  }

  async #schedule(): Promise<void> {
    const wait = this.#lastStart + INTERVAL_MS - performance.now();
    // A turn of the event loop in any case: `now` keeps this promise before it is let go of below.
    await sleep(Math.max(0, wait));
    // Calls that come from here on need a search of their own.
    this.#next = undefined;
    this.#lastStart = performance.now();
    await this.#run(ownCall(SEARCH_MS));
  }
}
