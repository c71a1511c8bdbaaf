import { KmsError } from '../errors/index.ts';

/** What the rooms need of an AbortSignal; a real one will do. */
export interface CallSignal {
  readonly aborted: boolean;
  /** Why nobody waits any more; undefined before that. */
  readonly reason: unknown;
  /** @throws the reason. */
  throwIfAborted(): void;
  /** Called once, when it is aborted; never when that has happened already. */
  addEventListener(type: 'abort', listener: () => void): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

/**
 * The end of one call, told to those who work for it. An AbortController does the same for more than a microsecond and a
 * kilobyte of garbage, which each call would pay, though nearly all end in an answer.
 */
export class CallEnd implements CallSignal {
  #reason: KmsError | undefined;
  #listeners: (() => void)[] | undefined;

  get aborted(): boolean {
    return this.#reason !== undefined;
  }

  get reason(): KmsError | undefined {
    return this.#reason;
  }

  throwIfAborted(): void {
    if (this.#reason !== undefined) throw this.#reason;
  }

  addEventListener(_type: 'abort', listener: () => void): void {
    (this.#listeners ??= []).push(listener);
  }

  removeEventListener(_type: 'abort', listener: () => void): void {
    const at = this.#listeners?.indexOf(listener) ?? -1;
    if (at >= 0) this.#listeners?.splice(at, 1);
  }

  /** Tells everybody who listens. A second reason changes nothing. */
  abort(reason: KmsError): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    const listeners = this.#listeners;
    this.#listeners = undefined;
    for (const listener of listeners ?? []) listener();
  }
}

/** What a call whose signal is aborted fails with. */
export const reasonOf = ({ reason }: CallSignal): Error =>
  reason instanceof Error ? reason : new KmsError('cancelled', 'nobody waits for this call any more');
