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
  /** `clockGap()` when it was made. */
  readonly gap: number;
  values: number;
  bytes: number;
}

/** How long the HSM may take for a data key that nobody waits for. */
const RENEWAL_MS = 10_000;
/** First and longest pause before it is asked again, each up to half as long again by chance. */
const RENEWAL_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
const NEVER = new CallEnd();
/** A jump of the wall clock against the monotonic one, in milliseconds, that a restored machine may be the cause of. */
const JUMP_MS = 60_000;

/** Milliseconds of the wall clock beyond those of the monotonic one: the same as long as nobody sets a clock. */
const clockGap = (): number => Date.now() - performance.now();

/**
 * The data key that encrypts now, for many values. A new one after a restart, after a rotation of the HSM's key, and when
 * a limit is reached; calls that come together share the HSM calls that it costs. It is zeroed when its age is over.
 *
 * It is made before anybody needs it, and renewed by a timer at half its age, or by the call that finds half its values or
 * bytes used; nobody waits for that. So an HSM that goes away leaves at least that half. The old one serves until its
 * successor was opened once, or its limits end; while the HSM is away the renewal is tried again without end.
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
  /** The key whose data key is kept ready. */
  #key: SealingKey | undefined;
  #renewal: NodeJS.Timeout | undefined;
  #renewing = false;
  #pauseMs = RENEWAL_PAUSE_MS;
  /** `performance.now()` before which a renewal that failed is not tried again. */
  #renewFrom = 0;

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
    this.#schedule();
  }

  /** Has a data key of this key made now, if there is none, and renewed from now on, whether values come or not. */
  keepReady(key: SealingKey): void {
    const isNew = this.#key?.keyId !== key.keyId;
    this.#key = key;
    if (isNew) this.#schedule();
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
    this.#dropAfterJump();
    let candidate = this.#current;
    for (;;) {
      call.signal.throwIfAborted();
      if (candidate !== undefined && this.#fits(candidate, key.keyId, bytes)) {
        candidate.values++;
        candidate.bytes += bytes;
        if (candidate === this.#current && this.#isHalfUsed(candidate) && performance.now() >= this.#renewFrom) {
          this.#renew(key);
        }
        return use(candidate.dataKey, candidate.sealed);
      }
      candidate = await this.#making.join(key.keyId, call, (shared) => this.#replace(key, shared));
    }
  }

  /** Whether a value of no bytes could be encrypted without the HSM now. */
  get usable(): boolean {
    this.#dropAfterJump();
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
    clearTimeout(this.#renewal);
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

  #isHalfUsed({ made, values, bytes }: Current): boolean {
    const { maxAgeMs, maxValues, maxBytes } = this.#limits;
    return performance.now() - made >= maxAgeMs / 2 || values > maxValues / 2 || bytes > maxBytes / 2;
  }

  /** Sets the timer of the next renewal; not before `pauseMs`. */
  #schedule(pauseMs = 0): void {
    clearTimeout(this.#renewal);
    this.#renewal = undefined;
    const key = this.#key;
    if (!this.#enabled || key === undefined) return;
    const current = this.#current;
    const isReady = current?.sealed.keyId === key.keyId;
    const due = isReady ? current.made + this.#limits.maxAgeMs / 2 - performance.now() : 0;
    this.#renewal = setTimeout(
      () => {
        this.#renewal = undefined;
        this.#renew(key);
      },
      Math.max(pauseMs, due),
    );
    this.#renewal.unref();
  }

  /** Once at a time. What keeps the HSM from making one is told to the calls that need it. */
  #renew(key: SealingKey): void {
    if (this.#renewing) return;
    this.#renewing = true;
    const call = { deadline: performance.now() + RENEWAL_MS, signal: NEVER };
    const settled = (pauseMs: number): void => {
      this.#renewing = false;
      this.#renewFrom = performance.now() + pauseMs;
      this.#schedule(pauseMs);
    };
    this.#making
      .join(key.keyId, call, (shared) => this.#replace(key, shared))
      .then(
        () => {
          this.#pauseMs = RENEWAL_PAUSE_MS;
          settled(0);
        },
        () => {
          settled(this.#pauseMs * (1 + Math.random() / 2));
          this.#pauseMs = Math.min(LONGEST_PAUSE_MS, this.#pauseMs * 2);
        },
      );
  }

  async #replace(key: SealingKey, call: Call): Promise<Current> {
    const generation = ++this.#generation;
    const made: Current = {
      ...(await this.#make(key, call)),
      made: performance.now(),
      gap: clockGap(),
      values: 0,
      bytes: 0,
    };
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

  /**
   * A virtual machine that was restored with its memory has a data key that was in use in the meantime: nobody counts what it
   * encrypted there. The wall clock jumps when that happens, and when a suspended machine goes on.
   */
  #dropAfterJump(): void {
    if (this.#current !== undefined && Math.abs(clockGap() - this.#current.gap) > JUMP_MS) this.#drop();
  }

  #watchAge(): void {
    clearTimeout(this.#expiry);
    const current = this.#current;
    if (current === undefined) return;
    const { maxAgeMs } = this.#limits;
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
