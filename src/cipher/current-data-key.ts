import { abandonable, ownCall, type Call } from '../call/index.ts';
import type { SealedDataKey } from './data-key.ts';
import type { SealingKey } from './sealing-key.ts';

/** When a data key that serves many values is replaced, by whichever comes first. */
export interface ReuseLimits {
  readonly maxAgeMs: number;
  readonly maxValues: number;
  /** Plaintext bytes. */
  readonly maxBytes: number;
}

interface Current {
  readonly dataKey: Buffer;
  readonly sealed: SealedDataKey;
  /** `performance.now()`. */
  readonly made: number;
  values: number;
  bytes: number;
}

/** How long the HSM may take to seal a data key that several calls wait for, in milliseconds. */
const SEAL_MS = 10_000;

/**
 * The data key that encrypts now, for many values. A new one after a restart, after a rotation of the HSM's key, and when
 * a limit is reached; calls that come together share the one HSM call that it costs.
 */
export class CurrentDataKey {
  readonly #make: (
    key: SealingKey,
    call: Call,
  ) => Promise<{ readonly dataKey: Buffer; readonly sealed: SealedDataKey }>;
  #limits: ReuseLimits;
  #current: Current | undefined;
  #making: { readonly keyId: string; readonly done: Promise<void> } | undefined;
  made = 0;

  /** @param make makes and seals one; its buffer is taken over. */
  constructor(
    limits: ReuseLimits,
    make: (key: SealingKey, call: Call) => Promise<{ readonly dataKey: Buffer; readonly sealed: SealedDataKey }>,
  ) {
    this.#limits = limits;
    this.#make = make;
  }

  configure(limits: ReuseLimits): void {
    this.#limits = limits;
  }

  /**
   * Runs `use` with a data key that may take `bytes` more. `use` must not keep it.
   * Throws what `make` throws when a new one is needed.
   */
  async use<T>(
    key: SealingKey,
    bytes: number,
    call: Call,
    use: (dataKey: Buffer, sealed: SealedDataKey) => T,
  ): Promise<T> {
    for (;;) {
      call.signal.throwIfAborted();
      const current = this.#current;
      if (current !== undefined && this.#fits(current, key.keyId, bytes)) {
        current.values++;
        current.bytes += bytes;
        return use(current.dataKey, current.sealed);
      }
      await abandonable(this.#replace(key), call.signal);
    }
  }

  /** ISO time until when it encrypts without the HSM, by age alone; undefined when there is none. */
  usableUntil(): string | undefined {
    if (this.#current === undefined) return undefined;
    return new Date(performance.timeOrigin + this.#current.made + this.#limits.maxAgeMs).toISOString();
  }

  close(): void {
    this.#current?.dataKey.fill(0);
    this.#current = undefined;
  }

  #fits(current: Current, keyId: string, bytes: number): boolean {
    const { maxAgeMs, maxValues, maxBytes } = this.#limits;
    return (
      current.sealed.keyId === keyId &&
      performance.now() - current.made < maxAgeMs &&
      current.values < maxValues &&
      // The first value always fits, whatever its size.
      (current.bytes + bytes <= maxBytes || current.values === 0)
    );
  }

  #replace(key: SealingKey): Promise<void> {
    const { keyId } = key;
    if (this.#making?.keyId === keyId) return this.#making.done;
    const done = this.#make(key, ownCall(SEAL_MS))
      .then(({ dataKey, sealed }) => {
        this.close();
        this.#current = { dataKey, sealed, made: performance.now(), values: 0, bytes: 0 };
        this.made++;
      })
      .finally(() => {
        if (this.#making?.done === done) this.#making = undefined;
      });
    this.#making = { keyId, done };
    return done;
  }
}
