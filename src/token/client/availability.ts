import { KmsError, type FailureKind } from '../../errors/index.ts';
import { awakeMs, type Call, type CallSignal } from '../../call/index.ts';
import type { LimitsConfig } from '../../config/index.ts';
import type { TokenStage, TokenState } from '../types.ts';

/**
 * Whether the token can be asked now, since when not, and who waits for it: the circuit breaker. Open means 'away':
 * after `hide` of it calls fail at once; the token process's own attempts to connect are the half-open probes.
 */
export class AvailabilityGate {
  #state: TokenState = 'starting';
  #reason = 'the token has not been reached yet';
  #failure: FailureKind = 'token-starting';
  #stage: TokenStage | undefined = 'token';
  #since = awakeMs();
  #sinceDate = new Date();
  #limits: Pick<LimitsConfig, 'hideMs' | 'callDeadlineMs'>;
  readonly #listeners = new Set<() => void>();
  #closing = false;

  /** @param limits - an absence is hidden for `hideMs`; a start may keep calls waiting for as long as a call may take. */
  constructor(limits: Pick<LimitsConfig, 'hideMs' | 'callDeadlineMs'>) {
    this.#limits = limits;
  }

  configure(limits: Pick<LimitsConfig, 'hideMs' | 'callDeadlineMs'>): void {
    this.#limits = limits;
  }

  get state(): TokenState {
    return this.#state;
  }

  /** Whether `ready` would resolve at once. */
  get isOpen(): boolean {
    return this.#state === 'ready' && !this.#closing;
  }

  get reason(): string {
    return this.#reason;
  }

  /** What the reason is about; undefined when ready. */
  get stage(): TokenStage | undefined {
    return this.#stage;
  }

  get since(): Date {
    return this.#sinceDate;
  }

  /** For how long it is in this state, in milliseconds of `awakeMs()`. */
  get sinceMs(): number {
    return awakeMs() - this.#since;
  }

  /**
   * @param stage - what the reason is about; none when ready.
   * @param failure - what calls fail with unless it is 'starting'.
   */
  set(state: TokenState, reason: string, stage: TokenStage | undefined, failure: FailureKind = 'token-away'): void {
    this.#stage = stage;
    if (state === this.#state && reason === this.#reason) return;
    if (state !== this.#state) {
      this.#since = awakeMs();
      this.#sinceDate = new Date();
    }
    this.#state = state;
    this.#reason = reason;
    this.#failure = state === 'starting' ? 'token-starting' : failure;
    this.announce();
  }

  /** Ends every wait: UNAVAILABLE from now on. */
  close(): void {
    this.#closing = true;
    this.announce();
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  announce(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  /** Throws what a call fails with that cannot wait for the token. */
  fail(): never {
    throw new KmsError(this.#failure, this.#reason);
  }

  /**
   * Resolves when the token is ready. Throws KmsError: the call's own end, or what keeps the token away after a short
   * absence was hidden.
   * @param firstFailure - when this call failed first, if it did (`awakeMs()`): its own absence counts from then.
   */
  async ready(call: Call, firstFailure: number | undefined): Promise<void> {
    for (;;) {
      if (this.#closing) throw new KmsError('shutting-down', 'the plugin is shutting down');
      call.signal.throwIfAborted();
      if (this.#state === 'ready') return;
      if (this.#state === 'refused') this.fail();
      const patience = this.#state === 'starting' ? this.#limits.callDeadlineMs : this.#limits.hideMs;
      const until = (this.#state === 'away' ? (firstFailure ?? this.#since) : this.#since) + patience;
      if (awakeMs() >= until) this.fail();
      await this.changed(call.signal, until);
    }
  }

  /** Resolves at the next change, at `until` (`awakeMs()`), or when the signal aborts. */
  changed(signal: CallSignal, until: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        off();
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, Math.max(1, until - awakeMs()));
      const off = this.onChange(done);
      signal.addEventListener('abort', done);
    });
  }
}
