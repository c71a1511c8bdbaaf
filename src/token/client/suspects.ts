import type { Call } from '../../call/index.ts';

/** How long other requests wait for suspects, in milliseconds: one that hangs must not stop everybody. */
const CLEAR_MS = 1_000;

/**
 * Requests that were in flight in a crash. They are sent again one at a time and, for a moment, nothing else: so the one
 * to blame shows itself, and takes no other with it.
 */
export class Suspects {
  #last: Promise<unknown> = Promise.resolve();
  #count = 0;

  get any(): boolean {
    return this.#count > 0;
  }

  /** Runs `send` when every suspect before it is through. */
  async alone<T>(send: () => Promise<T>): Promise<T> {
    this.#count++;
    const turn = this.#last.then(send, send);
    this.#last = turn.catch(() => undefined);
    try {
      return await turn;
    } finally {
      this.#count--;
    }
  }

  /** Resolves when there is no suspect, or after a second at most. Throws the call's own end. */
  async clear({ signal }: Call): Promise<void> {
    const until = performance.now() + CLEAR_MS;
    while (this.any) {
      signal.throwIfAborted();
      const left = until - performance.now();
      if (left <= 0) return;
      await settledWithin(this.#last, left);
    }
  }
}

function settledWithin(work: Promise<unknown>, milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    void work.finally(() => {
      clearTimeout(timer);
      resolve();
    });
  });
}
