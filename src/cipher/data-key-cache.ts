import { abandonable, ownCall, type Call } from '../call/index.ts';
import type { SealedDataKey } from './data-key.ts';

interface Entry {
  readonly keyId: string;
  readonly dataKey: Buffer;
  /** `performance.now()` after which it must not be used. */
  readonly expires: number;
}

export interface CacheLimits {
  /** Data keys kept, in number; 0 keeps none. */
  readonly size: number;
  /** Absolute age in milliseconds; 0 keeps none. A use does not prolong it. */
  readonly ttlMs: number;
}

/** How long the HSM may take to open a data key that several calls wait for, in milliseconds. */
const OPEN_MS = 10_000;
const SWEEP_MS = 1_000;

/**
 * Opened data keys, by the whole sealed data key and its key id. Concurrent misses make one HSM call; a failure is never
 * kept; entries are zeroed when they leave, by age, number or the retirement of their key.
 */
export class DataKeyCache {
  readonly #entries = new Map<string, Entry>();
  readonly #opening = new Map<string, Promise<Buffer>>();
  #limits: CacheLimits = { size: 0, ttlMs: 0 };
  #sweeper: NodeJS.Timeout | undefined;
  hits = 0;
  misses = 0;

  get size(): number {
    return this.#entries.size;
  }

  configure(limits: CacheLimits): void {
    this.#limits = limits;
    clearInterval(this.#sweeper);
    this.#sweeper = undefined;
    if (limits.size > 0 && limits.ttlMs > 0) {
      // A key that nobody asks for any more must leave memory all the same.
      this.#sweeper = setInterval(() => this.#sweep(), Math.min(SWEEP_MS, limits.ttlMs));
      this.#sweeper.unref();
    }
    this.#sweep();
  }

  /**
   * Runs `use` with the opened data key, at once on a hit. `use` must not keep the key: it is zeroed afterwards.
   * @param open asks the HSM; its buffer is taken over.
   */
  async use<T>(
    sealed: SealedDataKey,
    call: Call,
    open: (call: Call) => Promise<Buffer>,
    use: (dataKey: Buffer) => T,
  ): Promise<T> {
    const name = nameOf(sealed);
    const hit = this.#live(name);
    if (hit !== undefined) {
      this.hits++;
      return use(hit.dataKey);
    }
    this.misses++;
    const dataKey = Buffer.from(await abandonable(this.#opened(name, sealed, open), call.signal));
    try {
      return use(dataKey);
    } finally {
      dataKey.fill(0);
    }
  }

  /** Keeps a copy of a data key that was just made: what was written now can be read while the HSM is away. */
  put(sealed: SealedDataKey, dataKey: Buffer): void {
    const { size, ttlMs } = this.#limits;
    const name = nameOf(sealed);
    if (size === 0 || ttlMs === 0 || this.#entries.has(name)) return;
    this.#entries.set(name, {
      keyId: sealed.keyId,
      dataKey: Buffer.from(dataKey),
      expires: performance.now() + ttlMs,
    });
    this.#evict();
  }

  /** Drops the data keys of every key that is not among these ids. */
  keepOnly(keyIds: ReadonlySet<string>): void {
    for (const [name, entry] of this.#entries) if (!keyIds.has(entry.keyId)) this.#drop(name, entry);
  }

  close(): void {
    clearInterval(this.#sweeper);
    this.keepOnly(new Set());
  }

  #opened(name: string, sealed: SealedDataKey, open: (call: Call) => Promise<Buffer>): Promise<Buffer> {
    const under = this.#opening.get(name);
    if (under !== undefined) return under;
    // A time of its own: the caller who came first may leave before the others.
    const opening = open(ownCall(OPEN_MS)).then(
      (dataKey) => {
        this.#opening.delete(name);
        this.put(sealed, dataKey);
        // Everybody who waits takes a copy in this turn of the event loop.
        setImmediate(() => dataKey.fill(0));
        return dataKey;
      },
      (error: unknown) => {
        this.#opening.delete(name);
        throw error;
      },
    );
    this.#opening.set(name, opening);
    return opening;
  }

  #live(name: string): Entry | undefined {
    const entry = this.#entries.get(name);
    if (entry === undefined) return undefined;
    if (performance.now() >= entry.expires) {
      this.#drop(name, entry);
      return undefined;
    }
    // The order of the map is the order of last use.
    this.#entries.delete(name);
    this.#entries.set(name, entry);
    return entry;
  }

  #sweep(): void {
    const now = performance.now();
    for (const [name, entry] of this.#entries) if (now >= entry.expires) this.#drop(name, entry);
    this.#evict();
  }

  #evict(): void {
    for (const [name, entry] of this.#entries) {
      if (this.#entries.size <= this.#limits.size) return;
      this.#drop(name, entry);
    }
  }

  #drop(name: string, entry: Entry): void {
    this.#entries.delete(name);
    entry.dataKey.fill(0);
  }
}

const nameOf = ({ keyId, innerScheme, sealed }: SealedDataKey): string =>
  `${keyId}${innerScheme}${sealed.toString('latin1')}`;
