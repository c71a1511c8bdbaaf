import type { Call } from '../call/index.ts';
import { fingerprint, type SealedDataKey } from './data-key.ts';
import { SharedWork } from './shared-work.ts';

interface Entry {
  /** Its name in the map, the very string. */
  readonly name: string;
  readonly keyId: string;
  readonly dataKey: Buffer;
  /** `performance.now()` when it was opened or made. */
  readonly since: number;
}

export interface CacheLimits {
  /** Data keys kept, in number; 0 keeps none. */
  readonly size: number;
  /** Absolute age in milliseconds; 0 keeps none. A use does not prolong it. */
  readonly ttlMs: number;
}

const NOTHING: CacheLimits = { size: 0, ttlMs: 0 };
/** How often entries that nobody asks for are looked at: a part of their age, within these bounds in milliseconds. */
const SWEEP_PART = 60;
const SWEEP_MIN_MS = 100;
const SWEEP_MAX_MS = 60_000;

/**
 * Opened data keys, by the whole sealed data key and its key id. Concurrent misses make one HSM call; a failure is never
 * kept; entries are zeroed when they leave, by age, number or the retirement of their key.
 */
export class DataKeyCache {
  readonly #entries = new Map<string, Entry>();
  readonly #opening = new SharedWork<Buffer>();
  /** The last one of the map. */
  #newest: Entry | undefined;
  #limits = NOTHING;
  #keyIds: ReadonlySet<string> | undefined;
  #sweeper: NodeJS.Timeout | undefined;
  hits = 0;
  misses = 0;

  get size(): number {
    return this.#entries.size;
  }

  /** Takes other limits, for the entries that are there as well. */
  configure(limits: CacheLimits): void {
    const { size, ttlMs } = limits;
    this.#limits = size === 0 || ttlMs === 0 ? NOTHING : limits;
    clearInterval(this.#sweeper);
    if (this.#limits.size > 0) {
      const interval = Math.min(SWEEP_MAX_MS, Math.max(SWEEP_MIN_MS, ttlMs / SWEEP_PART));
      this.#sweeper = setInterval(() => this.#sweep(), interval);
      this.#sweeper.unref();
    }
    this.#sweep();
  }

  /**
   * Runs `use` with the opened data key, at once on a hit. `use` must not keep it: it is zeroed some time after. A kept
   * data key that does not fit (`use` returns undefined) is opened again, since memory may be damaged; one that does not fit
   * then is not kept, since the HSM may have given wrong bytes.
   * @param open - asks the HSM; its buffer is taken over.
   * @returns what `use` made of it, or the fingerprint of the data key that did not fit.
   */
  async use<T>(
    sealed: SealedDataKey,
    call: Call,
    open: (call: Call) => Promise<Buffer>,
    use: (dataKey: Buffer) => T | undefined,
  ): Promise<{ readonly value: T; readonly misfit?: never } | { readonly value?: never; readonly misfit: string }> {
    const name = nameOf(sealed);
    const hit = this.#live(name);
    if (hit !== undefined) {
      const value = use(hit.dataKey);
      if (value !== undefined) {
        this.hits++;
        return { value };
      }
    }
    this.misses++;
    const dataKey = await this.#opening.join(name, call, async (shared) => {
      const opened = await open(shared);
      // Everybody who waits uses it in this turn of the event loop.
      setImmediate(() => opened.fill(0));
      return opened;
    });
    const value = use(dataKey);
    if (value === undefined) return { misfit: fingerprint(dataKey) };
    this.put(sealed, dataKey);
    return { value };
  }

  /** Keeps a copy of a data key that was just made: what was written now can be read while the HSM is away. */
  put(sealed: SealedDataKey, dataKey: Buffer): void {
    const { keyId } = sealed;
    if (this.#limits.size === 0 || this.#keyIds?.has(keyId) === false) return;
    const name = nameOf(sealed);
    const old = this.#entries.get(name);
    // It keeps its age.
    if (old?.dataKey.equals(dataKey) === true) return;
    if (old !== undefined) this.#drop(name, old);
    // Not from Node's pool, of which each small buffer keeps a whole slab alive.
    const kept = Buffer.allocUnsafeSlow(dataKey.length);
    dataKey.copy(kept);
    this.#newest = { name, keyId, dataKey: kept, since: performance.now() };
    this.#entries.set(name, this.#newest);
    this.#evict();
  }

  /** Keeps no data key of another key than these ids. */
  keepOnly(keyIds: ReadonlySet<string>): void {
    this.#keyIds = keyIds;
    for (const [name, entry] of this.#entries) if (!keyIds.has(entry.keyId)) this.#drop(name, entry);
  }

  close(): void {
    this.configure(NOTHING);
  }

  #live(name: string): Entry | undefined {
    const entry = this.#entries.get(name);
    if (entry === undefined) return undefined;
    if (this.#isOver(entry)) {
      this.#drop(name, entry);
      return undefined;
    }
    // The order of the map is the order of last use. Under its old name: a new one would outlive the call.
    if (entry !== this.#newest) {
      this.#entries.delete(name);
      this.#entries.set(entry.name, entry);
      this.#newest = entry;
    }
    return entry;
  }

  #isOver(entry: Entry): boolean {
    return performance.now() - entry.since >= this.#limits.ttlMs;
  }

  #sweep(): void {
    for (const [name, entry] of this.#entries) if (this.#isOver(entry)) this.#drop(name, entry);
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
    if (entry === this.#newest) this.#newest = undefined;
    entry.dataKey.fill(0);
  }
}

/** The whole of what stands before the value's IV: header with key id, inner scheme, sealed data key. */
const nameOf = ({ prefix }: SealedDataKey): string => prefix.toString('latin1');
