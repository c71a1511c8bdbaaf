import { setTimeout as sleep } from 'node:timers/promises';
import type { KeyConfig } from '../config/index.ts';
import { toKmsError } from '../errors/index.ts';
import type { Log } from '../log/index.ts';
import type { KeyMemory } from './key-memory.ts';

/** How often a listed key that is not there is looked for, in milliseconds: another host may be making it. */
const SEARCH_MS = 5_000;
/** How often listed keys are looked for that were all found, in milliseconds, and up to a quarter longer by chance. */
const LOOK_MS = 60_000;
/** A key is made after a pause of up to so many milliseconds: hosts that were started together rarely make two then. */
const CREATE_JITTER_MS = 1_000;
/** How long after a key was made the token is searched for another of the same moment, in milliseconds. */
const TWIN_SEARCH_MS = 2_000;

export interface MissingKeysOptions {
  readonly memory: KeyMemory;
  readonly log: Log;
  /** Searches the token for all listed keys. */
  readonly search: () => Promise<void>;
  readonly create: (label: string) => Promise<unknown>;
  /** Whether a key under that entry's label was found meanwhile. */
  readonly isThere: (config: KeyConfig) => boolean;
  /** `LOOK_MS`, or less for a test. */
  readonly lookMs?: number;
}

/**
 * Looks again and again for listed keys, more often while the token does not hold all of them, and makes the one that
 * `create: true` allows.
 */
export class MissingKeys {
  readonly #options: MissingKeysOptions;
  #timer: NodeJS.Timeout | undefined;
  #twinTimer: NodeJS.Timeout | undefined;
  #creation: Promise<void> | undefined;
  #createAgainAt = 0;
  #wanted: readonly KeyConfig[] = [];
  /** The timer is the one for keys that were all found: changes of the token's state do not put it off. */
  #isRound = false;
  #closed = false;

  constructor(options: MissingKeysOptions) {
    this.#options = options;
  }

  /** A key that is being made; calls that need it wait for it. */
  get creation(): Promise<void> | undefined {
    return this.#creation;
  }

  /** Never where a key was in use before, as far as memory goes. */
  mayCreate({ create, keyId, label }: KeyConfig): boolean {
    const { memory } = this.#options;
    const isFree = memory.trustworthy && !memory.knows(label) && memory.whyNotMake(label) === undefined;
    return create && keyId === undefined && isFree;
  }

  /** @param missing - entries that the token holds no key for; undefined, while the token is away, ends the looking. */
  look(missing: readonly KeyConfig[] | undefined): void {
    const isRound = missing?.length === 0;
    this.#wanted = missing ?? [];
    if (isRound && this.#isRound && this.#timer !== undefined && !this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#isRound = isRound;
    if (this.#closed || missing === undefined) return;
    if (!isRound) this.#createOne(missing);
    const pause = isRound ? (this.#options.lookMs ?? LOOK_MS) * (1 + Math.random() / 4) : SEARCH_MS;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#options.search().catch(() => this.look(this.#wanted));
    }, pause);
    this.#timer.unref();
  }

  /** Of two hosts that made a key at the same moment, the first saw only its own. */
  searchForTwin(): void {
    clearTimeout(this.#twinTimer);
    if (this.#closed) return;
    this.#twinTimer = setTimeout(() => {
      this.#options.search().catch((error: unknown) => {
        const { code, message: reason } = toKmsError(error);
        this.#options.log.debug('the token could not be searched again', { code, reason });
      });
    }, TWIN_SEARCH_MS);
    this.#twinTimer.unref();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#twinTimer);
  }

  #createOne(missing: readonly KeyConfig[]): void {
    const config = missing.find((candidate) => this.mayCreate(candidate));
    if (config === undefined || this.#creation !== undefined || performance.now() < this.#createAgainAt) return;
    this.#createAgainAt = performance.now() + SEARCH_MS;
    const { create, isThere, log } = this.#options;
    this.#creation = sleep(Math.random() * CREATE_JITTER_MS)
      .then(() => create(config.label))
      .then(
        () => undefined,
        (error: unknown) => {
          const { kind, code, message } = toKmsError(error);
          if (kind === 'key-create-refused' && isThere(config)) return;
          log.error(`key "${config.label}" could not be created: ${message}`, { code });
        },
      )
      .finally(() => (this.#creation = undefined));
  }
}
