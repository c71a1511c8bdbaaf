import { awakeMs } from '../../call/index.ts';

/** Shortest time after which a process that does not answer is killed, in milliseconds. */
const KILL_MIN_MS = 30_000;
const KILL_MAX_FACTOR = 8;
/** Part of a call's time without any answer after which the token counts as away. */
const HUNG_PART = 0.75;
/** A hang is forgiven, and the next one killed as soon as the first, after so long without one, in milliseconds. */
const FORGIVE_MS = 60_000;

/** What the supervisor knows when it looks. */
export interface Sight {
  readonly now: number;
  /** When the oldest request without an answer was sent. */
  readonly oldestSentAt: number | undefined;
  readonly callDeadlineMs: number;
  /** For how long the token has been ready; undefined when it is not. */
  readonly readyForMs: number | undefined;
}

/** 'hangs': to be told; 'dead': to be killed, said once for each process. `ms`: for how long nothing came back. */
export type Finding = { readonly kind: 'well' } | { readonly kind: 'hangs' | 'dead'; readonly ms: number };

const WELL: Finding = { kind: 'well' };

/**
 * Tells when a token process hangs: first that calls get no answer, then that it is past waiting for. A vendor's HA group
 * may need its time to move on, so the patience with a hang doubles when they repeat. Times are `awakeMs()`: a
 * process that was stopped itself has heard nobody.
 */
export class HangWatch {
  readonly #killAfterMs: number;
  #lastFrameAt = awakeMs();
  #lastAnswerAt = awakeMs();
  #hangs = false;
  #dead = false;
  #factor = 1;

  /** @param killAfterMs - at least so long before it is given up, 30 s by default, and at least twice `vendorTimeoutMs`. */
  constructor(vendorTimeoutMs: number, killAfterMs = KILL_MIN_MS) {
    this.#killAfterMs = Math.max(killAfterMs, 2 * vendorTimeoutMs);
  }

  /** Another process is watched from now on. */
  begin(now: number): void {
    this.#lastFrameAt = now;
    this.#hangs = false;
    this.#dead = false;
  }

  /** The process said something, be it only that it is alive. */
  heard(now: number): void {
    this.#lastFrameAt = now;
  }

  /** A request was answered. @returns whether the process seemed to hang until now. */
  answered(now: number): boolean {
    this.#lastAnswerAt = now;
    const hung = this.#hangs;
    this.#hangs = false;
    return hung;
  }

  look({ now, oldestSentAt, callDeadlineMs, readyForMs }: Sight): Finding {
    if (this.#dead) return WELL;
    const killAfter = this.#killAfterMs * this.#factor;
    const silent = now - this.#lastFrameAt;
    const waited = oldestSentAt === undefined ? 0 : now - oldestSentAt;
    if (silent > killAfter || waited > killAfter) {
      this.#dead = true;
      this.#factor = Math.min(KILL_MAX_FACTOR, this.#factor * 2);
      return { kind: 'dead', ms: Math.max(silent, waited) };
    }
    if (readyForMs !== undefined && readyForMs > FORGIVE_MS) this.#factor = 1;
    if (oldestSentAt === undefined || waited <= callDeadlineMs * HUNG_PART || this.#lastAnswerAt >= oldestSentAt)
      return WELL;
    this.#hangs = true;
    return { kind: 'hangs', ms: waited };
  }
}
