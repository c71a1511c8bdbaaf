import { awakeMs, type CallSignal, reasonOf } from '../../call/index.ts';
import type { FailedAnswer } from '../wire/messages.ts';

/** How one sending of a request ended. 'died': the token process ended under it. 'lost': try again when it is ready. */
export type Outcome =
  | { readonly kind: 'ok'; readonly payload: Buffer }
  | { readonly kind: 'failed'; readonly answer: FailedAnswer }
  | { readonly kind: 'lost'; readonly why: string; readonly unsent?: true }
  | { readonly kind: 'died'; readonly how: string };

class Entry {
  readonly id: number;
  readonly sentAt = awakeMs();
  readonly #signal: CallSignal;
  readonly #resolve: (outcome: Outcome) => void;
  readonly #onAbort: () => void;

  constructor(id: number, signal: CallSignal, resolve: (outcome: Outcome) => void, reject: (reason: Error) => void) {
    this.id = id;
    this.#signal = signal;
    this.#resolve = resolve;
    this.#onAbort = () => reject(reasonOf(signal));
    signal.addEventListener('abort', this.#onAbort);
  }

  settle(outcome: Outcome): void {
    this.#signal.removeEventListener('abort', this.#onAbort);
    if (outcome.kind === 'ok' && this.#signal.aborted) outcome.payload.fill(0);
    this.#resolve(outcome);
  }
}

const FIRST_PLACES = 256;

/**
 * Requests that the token process has and has not answered, those included that nobody waits for any more.
 *
 * Each stands at its id modulo the number of places, a power of two. A Map would do, but leaves its old tables behind as
 * requests come and go, and V8's scavenger takes whatever such a table held for alive as soon as the table is old.
 */
export class PendingRequests {
  #places: (Entry | undefined)[] = emptyPlaces(FIRST_PLACES);
  #size = 0;
  #nextId = 1;

  get size(): number {
    return this.#size;
  }

  /** `awakeMs()` at which the oldest unanswered request was sent. */
  get oldestSentAt(): number | undefined {
    if (this.#size === 0) return undefined;
    return this.#places.reduce((oldest, entry) => Math.min(oldest, entry?.sentAt ?? Infinity), Infinity);
  }

  /**
   * @param signal - when it is aborted the outcome is its reason, and an answer that comes after that is zeroed: it may be a
   *   plaintext, and nobody waits for it.
   * @returns the id to send it under, never used before, and what becomes of it.
   */
  add(signal: CallSignal): { readonly id: number; readonly outcome: Promise<Outcome> } {
    if (this.#size >= this.#places.length / 2) this.#grow();
    while (this.#places[this.#placeOf(this.#nextId)] !== undefined) this.#nextId++;
    const id = this.#nextId++;
    this.#size++;
    const outcome = new Promise<Outcome>((resolve, reject) => {
      this.#places[this.#placeOf(id)] = new Entry(id, signal, resolve, reject);
    });
    return { id, outcome };
  }

  /** @returns false for an answer that nobody asked for. */
  settle(id: number, outcome: Outcome): boolean {
    const place = this.#placeOf(id);
    const entry = this.#places[place];
    if (entry?.id !== id) return false;
    this.#places[place] = undefined;
    this.#size--;
    entry.settle(outcome);
    return true;
  }

  settleAll(outcome: Outcome): void {
    const entries = this.#places.filter((entry) => entry !== undefined);
    this.#places.fill(undefined);
    this.#size = 0;
    for (const entry of entries) entry.settle(outcome);
  }

  #placeOf(id: number): number {
    return id % this.#places.length;
  }

  /** Ids that differ modulo a number differ modulo its double. */
  #grow(): void {
    const old = this.#places;
    this.#places = emptyPlaces(old.length * 2);
    for (const entry of old) if (entry !== undefined) this.#places[this.#placeOf(entry.id)] = entry;
  }
}

const emptyPlaces = (places: number): (Entry | undefined)[] => new Array<Entry | undefined>(places).fill(undefined);
