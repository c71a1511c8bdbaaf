import type { CallObserver, FinishedCall } from '../api/index.ts';
import { ownCall, type Call } from '../call/index.ts';
import type { Health } from '../control/index.ts';
import { FAILURES, toKmsError, type FailureKind } from '../errors/index.ts';
import type { Log } from '../log/index.ts';
import { guarded } from '../guard/index.ts';

/** What readiness is judged from. */
export interface ReadinessSources {
  /** What the keyring knows without asking: the token's state, the active key. */
  health(): Health;
  /** When the HSM last gave a good answer to anybody, in `performance.now()` milliseconds. */
  lastGood(): number | undefined;
  /** A known-answer call. */
  probe(call: Call): Promise<void>;
}

export interface ReadinessTimes {
  /** How long a good answer of the HSM is taken for the truth. */
  readonly freshMs: number;
  /** The same for a failure: how soon somebody who asks has the HSM tried again. */
  readonly failedMs: number;
  /** Without real calls the HSM is tried so often, whether or not somebody asks. */
  readonly idleMs: number;
  /** How long a known-answer call may take. */
  readonly probeMs: number;
}

const TIMES: ReadinessTimes = { freshMs: 5_000, failedMs: 2_000, idleMs: 10_000, probeMs: 5_000 };

const codes = (...kinds: FailureKind[]): ReadonlySet<string> => new Set(kinds.map((kind) => FAILURES[kind].code));
/** The HSM is to blame: calls like it fail. */
const HSM_AT_FAULT = codes('token-away', 'token-starting', 'pin-refused', 'pin-not-initialized', 'iv-refused');
/** Perhaps the HSM, perhaps a client in a hurry: reason to ask the HSM. */
const DOUBTFUL = codes('deadline', 'module-limit', 'module-misuse', 'poisonous-request', 'unproven', 'internal');

/**
 * Whether calls succeed, as its last evidence has it: the last real call where that is recent, else a known-answer call.
 * That call runs in the background, one at a time, and its result is what the next one who asks is told: asking itself
 * waits for nothing.
 */
export class Readiness implements CallObserver {
  readonly #sources: ReadinessSources;
  readonly #log: Log;
  readonly #times: ReadinessTimes;
  readonly #idle: NodeJS.Timeout;
  #answered = 0;
  #failed = 0;
  #probing = false;
  #closed = false;
  #probedAt = -Infinity;
  #goodAt = -Infinity;
  #failure: { readonly at: number; readonly reason: string } | undefined;
  #doubtAt = -Infinity;

  constructor(sources: ReadinessSources, log: Log, times: Partial<ReadinessTimes> = {}) {
    this.#sources = sources;
    this.#log = log;
    this.#times = { ...TIMES, ...times };
    const { idleMs } = this.#times;
    const lookWhenIdle = guarded(log, 'looking at an idle HSM', () => {
      if (this.#sources.health().ok && performance.now() - this.#lastEvidence() > idleMs) this.#probe();
    });
    this.#idle = setInterval(lookWhenIdle, idleMs / 3);
    this.#idle.unref();
  }

  /** Known-answer calls so far. */
  get probes(): { readonly answered: number; readonly failed: number } {
    return { answered: this.#answered, failed: this.#failed };
  }

  finished({ code }: FinishedCall): void {
    if (code === undefined) return;
    if (HSM_AT_FAULT.has(code)) this.#fail(`the last call failed with ${code}; the log has why`);
    else if (DOUBTFUL.has(code)) this.#doubtAt = performance.now();
  }

  /** From memory, at once. */
  ask(): Health {
    const health = this.#sources.health();
    // Its own attempts to reach the token are under way then, and end by themselves.
    if (!health.ok) return health;
    const now = performance.now();
    const good = this.#lastGood();
    const failure = this.#failure !== undefined && this.#failure.at > good ? this.#failure : undefined;
    const { freshMs, failedMs } = this.#times;
    const isStale = now - this.#lastEvidence() > (failure === undefined ? freshMs : failedMs);
    const isDoubted = this.#doubtAt > Math.max(this.#lastEvidence(), this.#probedAt);
    if (isStale || isDoubted) this.#probe();
    return failure === undefined ? health : { ok: false, reason: failure.reason };
  }

  close(): void {
    clearInterval(this.#idle);
    this.#closed = true;
  }

  #lastGood(): number {
    return Math.max(this.#goodAt, this.#sources.lastGood() ?? -Infinity);
  }

  #lastEvidence(): number {
    return Math.max(this.#lastGood(), this.#failure?.at ?? -Infinity);
  }

  #fail(reason: string): void {
    this.#failure = { at: performance.now(), reason };
  }

  #probe(): void {
    if (this.#probing || this.#closed) return;
    this.#probing = true;
    this.#probedAt = performance.now();
    this.#sources
      .probe(ownCall(this.#times.probeMs))
      .then(
        () => {
          this.#answered++;
          this.#goodAt = performance.now();
        },
        (thrown: unknown) => {
          const { kind, code, message } = toKmsError(thrown);
          // The end of the program is no fault of the HSM's.
          if (kind === 'shutting-down') return;
          this.#failed++;
          this.#fail(`the HSM failed a known-answer call: ${message}`);
          this.#log.warn(`the HSM failed a known-answer call: ${message}`, { code });
        },
      )
      .finally(() => {
        this.#probing = false;
      });
  }
}
