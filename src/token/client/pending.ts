import type { FailedAnswer } from '../wire/messages.ts';

/** How one sending of a request ended. 'died': the token process ended under it. 'lost': try again when it is ready. */
export type Outcome =
  | { readonly kind: 'ok'; readonly payload: Buffer }
  | { readonly kind: 'failed'; readonly answer: FailedAnswer }
  | { readonly kind: 'lost'; readonly why: string }
  | { readonly kind: 'died'; readonly how: string };

interface Entry {
  readonly sentAt: number;
  readonly settle: (outcome: Outcome) => void;
}

/** Requests that the token process has and has not answered, those included that nobody waits for any more. */
export class PendingRequests {
  readonly #entries = new Map<bigint, Entry>();
  #nextId = 1n;

  get size(): number {
    return this.#entries.size;
  }

  /** `performance.now()` at which the oldest unanswered request was sent. */
  get oldestSentAt(): number | undefined {
    const [first] = this.#entries.values();
    return first?.sentAt;
  }

  /** @returns the id to send it under, never used before, and what becomes of it. */
  add(): { readonly id: bigint; readonly outcome: Promise<Outcome> } {
    const id = this.#nextId++;
    const outcome = new Promise<Outcome>((settle) => {
      this.#entries.set(id, { sentAt: performance.now(), settle });
    });
    return { id, outcome };
  }

  /** @returns false for an answer that nobody asked for. */
  settle(id: bigint, outcome: Outcome): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined) return false;
    this.#entries.delete(id);
    entry.settle(outcome);
    return true;
  }

  settleAll(outcome: Outcome): void {
    const entries = [...this.#entries.values()];
    this.#entries.clear();
    for (const { settle } of entries) settle(outcome);
  }
}
