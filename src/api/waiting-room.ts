import type { Availability, Keyring } from '../keyring/index.ts';
import type { Log } from '../log/index.ts';
import { guarded } from '../guard/index.ts';

/** A call of a patient connection that waits for the token or for a key. */
export interface Waiter {
  /** Leaves the room and tries again. */
  retry(): void;
}

/** Whether it makes sense to wait: the token is not there, but may come by itself. */
export function isOut(availability: Availability): boolean {
  return availability === 'starting' || availability === 'away';
}

/** A listed key may be made by another host at any moment, and nothing tells. */
const LOOK_AGAIN_MS = 1_000;

/**
 * Where calls of patient connections wait; they hold no place in flight. All try again when the keyring reports a change,
 * and about once a second, as long as the token is there.
 */
export class WaitingRoom {
  readonly #keyring: Keyring;
  readonly #waiters = new Set<Waiter>();
  readonly #unsubscribe: () => void;
  readonly #wake: () => void;
  #room: number;
  #ticker: NodeJS.Timeout | undefined;
  #wakeup: NodeJS.Immediate | undefined;

  /** @param room - calls that wait at once. */
  constructor(keyring: Keyring, room: number, log: Log) {
    this.#keyring = keyring;
    this.#wake = guarded(log, 'waking calls that wait', () => this.#retryAll());
    this.#room = room;
    this.#unsubscribe = keyring.onChange(() => this.#wakeSoon());
  }

  get size(): number {
    return this.#waiters.size;
  }

  resize(room: number): void {
    this.#room = room;
  }

  /** False when the room is full. */
  enter(waiter: Waiter): boolean {
    if (this.#waiters.size >= this.#room) return false;
    this.#waiters.add(waiter);
    this.#ticker ??= setInterval(this.#wake, LOOK_AGAIN_MS);
    return true;
  }

  leave(waiter: Waiter): void {
    this.#waiters.delete(waiter);
    if (this.#waiters.size > 0) return;
    clearInterval(this.#ticker);
    this.#ticker = undefined;
  }

  close(): void {
    this.#unsubscribe();
    clearInterval(this.#ticker);
    clearImmediate(this.#wakeup);
  }

  /** Not from inside the keyring's own work, and once for several changes in a row. */
  #wakeSoon(): void {
    if (this.#waiters.size === 0) return;
    this.#wakeup ??= setImmediate(() => {
      this.#wakeup = undefined;
      this.#wake();
    });
  }

  #retryAll(): void {
    if (isOut(this.#keyring.health().availability)) return;
    for (const waiter of [...this.#waiters]) waiter.retry();
  }
}
