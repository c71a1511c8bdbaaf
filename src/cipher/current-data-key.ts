import { type Call, CallEnd } from '../call/index.ts';
import type { SealedDataKey } from './data-key.ts';
import type { SealingKey } from './sealing-key.ts';
import { SharedWork } from './shared-work.ts';

/** When a data key that serves many values is replaced, by whichever comes first. */
export interface ReuseLimits {
  readonly maxAgeMs: number;
  readonly maxValues: number;
  /** Plaintext bytes. */
  readonly maxBytes: number;
}

export interface NewDataKey {
  readonly dataKey: Buffer;
  readonly sealed: SealedDataKey;
}

interface Current extends NewDataKey {
  /** `performance.now()`. */
  readonly made: number;
  values: number;
  bytes: number;
}

/** How long the HSM may take for a data key that nobody waits for, and the pause before it is asked again. */
const RENEWAL_MS = 10_000;
const RENEWAL_PAUSE_MS = 1_000;
const NEVER = new CallEnd();

/**
 * The data key that encrypts now, for many values. A new one after a restart, after a rotation of the HSM's key, and when
 * a limit is reached; calls that come together share the HSM calls that it costs. It is zeroed when its age is over.
 *
 * A call that finds it past half its age has the next one made, and waits for nothing: so an HSM that goes away leaves at
 * least that half.
 */
export class CurrentDataKey {
  readonly #make: (key: SealingKey, call: Call) => Promise<NewDataKey>;
  readonly #making = new SharedWork<Current>();
  #limits: ReuseLimits = { maxAgeMs: 0, maxValues: 1, maxBytes: 0 };
  #current: Current | undefined;
  /** Counts up whenever a data key under way must not become the current one any more. */
  #generation = 0;
  #enabled = false;
  #keyIds: ReadonlySet<string> | undefined;
  #expiry: NodeJS.Timeout | undefined;
  /** `performance.now()` from which on a successor is made beforehand. */
  #renewFrom = Infinity;

  /** @param make - makes and seals one; its buffer is taken over. */
  constructor(make: (key: SealingKey, call: Call) => Promise<NewDataKey>) {
    this.#make = make;
  }

  /** Takes other limits; without any, keeps no data key. Calls under way end as they began. */
  configure(limits: ReuseLimits | undefined): void {
    this.#enabled = limits !== undefined;
    if (limits === undefined) this.close();
    else this.#limits = limits;
    this.#watchAge();
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
    let candidate = this.#current;
    for (;;) {
      call.signal.throwIfAborted();
      if (candidate !== undefined && this.#fits(candidate, key.keyId, bytes)) {
        candidate.values++;
        candidate.bytes += bytes;
        if (candidate === this.#current && performance.now() >= this.#renewFrom) this.#renew(key);
        return use(candidate.dataKey, candidate.sealed);
      }
      candidate = await this.#making.join(key.keyId, call, (shared) => this.#replace(key, shared));
    }
  }

  /** Whether a value of no bytes could be encrypted without the HSM now. */
  get usable(): boolean {
    return this.#current !== undefined && this.#current.values < this.#limits.maxValues;
  }

  /** ISO time until when it encrypts without the HSM, by age alone; undefined when it does not. */
  usableUntil(): string | undefined {
    if (this.#current === undefined || !this.usable) return undefined;
    return new Date(performance.timeOrigin + this.#current.made + this.#limits.maxAgeMs).toISOString();
  }

  /** Keeps no data key of another key than these ids. */
  keepOnly(keyIds: ReadonlySet<string>): void {
    this.#keyIds = keyIds;
    if (this.#current !== undefined && !keyIds.has(this.#current.sealed.keyId)) this.#drop();
  }

  close(): void {
    this.#generation++;
    this.#drop();
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

  #renew(key: SealingKey): void {
    this.#renewFrom = performance.now() + RENEWAL_PAUSE_MS;
    const call = { deadline: performance.now() + RENEWAL_MS, signal: NEVER };
    // Whatever keeps it from being made is told to the calls that need it.
    this.#making.join(key.keyId, call, (shared) => this.#replace(key, shared)).catch(() => undefined);
  }

  async #replace(key: SealingKey, call: Call): Promise<Current> {
    const generation = ++this.#generation;
    const made: Current = { ...(await this.#make(key, call)), made: performance.now(), values: 0, bytes: 0 };
    const isListed = this.#keyIds?.has(key.keyId) ?? true;
    if (generation === this.#generation && this.#enabled && isListed) {
      this.#drop();
      this.#current = made;
      this.#watchAge();
    } else {
      // Overtaken by a rotation or other settings: those who wait for it use it in this turn of the event loop.
      setImmediate(() => retire(made));
    }
    return made;
  }

  #watchAge(): void {
    clearTimeout(this.#expiry);
    const current = this.#current;
    if (current === undefined) return;
    const { maxAgeMs } = this.#limits;
    this.#renewFrom = current.made + maxAgeMs / 2;
    const left = current.made + maxAgeMs - performance.now();
    this.#expiry = setTimeout(() => this.#drop(), Math.max(0, left));
    this.#expiry.unref();
  }

  #drop(): void {
    clearTimeout(this.#expiry);
    if (this.#current !== undefined) retire(this.#current);
    this.#current = undefined;
  }
}

/** Zeroes it, and makes sure that nobody who still holds it encrypts with zeros. */
function retire(current: Current): void {
  current.values = Infinity;
  current.dataKey.fill(0);
}
