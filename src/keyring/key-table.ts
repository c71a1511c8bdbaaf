import type { Config, KeyConfig } from '../config/index.ts';
import { FAULTS, KmsError, toKmsError } from '../errors/index.ts';
import type { Log } from '../log/index.ts';
import type { KeyQuery, TokenKey } from '../token/index.ts';
import type { KeyMemory } from './key-memory.ts';
import {
  byId,
  chooseSealingKey,
  computedIdsOf,
  givenIds,
  idsOf,
  listedKeys,
  queryFor,
  type ListedKey,
  type SealingChoice,
} from './listed-keys.ts';

export interface KeyTableOptions {
  readonly config: Config;
  readonly memory: KeyMemory;
  readonly log: Log;
  /** Whether the key may be made, where none is found: then its absence is no error. */
  readonly mayCreate: (config: KeyConfig) => boolean;
}

/** What of a query decides which objects are found and which ids they have. */
const searchFor = ({ label, ckaId = '', macLabel }: KeyQuery): string =>
  JSON.stringify([label, ckaId, macLabel ?? label]);

/** The configuration's keys as the token last showed them: which one encrypts, and which answers to an id. */
export class KeyTable {
  readonly #options: KeyTableOptions;
  #config: Config;
  #listed: readonly ListedKey[] = [];
  #byId: ReadonlyMap<string, ListedKey> = new Map();
  #seen: readonly TokenKey[] | undefined;
  #sealing: SealingChoice | KmsError = new KmsError('token-starting', 'the token has not been reached yet');
  /** What the token was asked for: of others it is not known whether it holds them. */
  #searched: ReadonlySet<string> = new Set();
  /** Labels whose missing key is in the log. */
  #logged: ReadonlySet<string> = new Set();

  constructor(options: KeyTableOptions) {
    this.#options = options;
    this.#config = options.config;
  }

  /** The configuration in force. */
  get config(): Config {
    return this.#config;
  }

  /** Every key that was found under a listed label. */
  get listed(): readonly ListedKey[] {
    return this.#listed;
  }

  /** The key that encrypts, or why there is none. */
  get sealing(): SealingChoice | KmsError {
    return this.#sealing;
  }

  /** False while the token has not been searched for this configuration: what is missing is not known. */
  get isKnown(): boolean {
    return this.#seen !== undefined;
  }

  get active(): KeyConfig {
    const active = this.#config.keys.find((key) => key.state === 'active');
    if (active === undefined) throw new TypeError('the configuration has no active key');
    return active;
  }

  /** Another configuration holds from now on, for the keys found so far until `take` brings others. */
  configure(config: Config): void {
    this.#config = config;
    this.#seen = undefined;
  }

  /** The token was asked for these. */
  asked(queries: readonly KeyQuery[]): void {
    this.#searched = new Set(queries.map(searchFor));
  }

  /** Takes what the token shows. @returns whether anything is new, the configuration included. */
  take(keys: readonly TokenKey[]): boolean {
    if (keys === this.#seen) return false;
    const isSame = this.#seen !== undefined && JSON.stringify(keys) === JSON.stringify(this.#seen);
    this.#seen = keys;
    this.#listed = listedKeys(this.#config.keys, keys);
    this.#byId = byId(this.#listed);
    this.#choose();
    // A search that finds what was there before has nothing to remember, and says nothing twice.
    if (!isSame) this.#remember();
    return true;
  }

  /** What the token is asked for an entry: what is remembered of it grows. */
  query(config: KeyConfig): KeyQuery {
    return queryFor(config, this.#options.memory.withCkaIds(config.label));
  }

  /** The key that answers to an id. */
  key(keyId: string): ListedKey | undefined {
    return this.#byId.get(keyId);
  }

  found(config: KeyConfig): ListedKey[] {
    return this.#listed.filter((key) => key.config === config);
  }

  /** Entries of the configuration that no key was found for. */
  absent(): KeyConfig[] {
    return this.#config.keys.filter((config) => !this.#listed.some((key) => key.config === config));
  }

  /** Entries with `state: decrypt` that the token was searched for and holds no key of. The active one is a failure by itself. */
  missing(): KeyConfig[] {
    const { mayCreate } = this.#options;
    return this.absent().filter(
      (config) =>
        config.state === 'decrypt' &&
        this.isKnown &&
        this.#searched.has(searchFor(this.query(config))) &&
        !mayCreate(config),
    );
  }

  /** One line in the log for each that is newly missing. */
  logMissing(): void {
    const missing = this.missing();
    for (const config of missing.filter(({ label }) => !this.#logged.has(label))) {
      const { code, message } = new KmsError('key-missing', this.whyMissing(config));
      this.#options.log.warn(message, { code, label: config.label });
    }
    this.#logged = new Set(missing.map(({ label }) => label));
  }

  /**
   * What `retired_keys` makes of an id. 'retired', an INVALID_ARGUMENT that makes CredHub go on without the values under it,
   * takes a search that found every listed key with its ids, none of them this one. Listed counts more than retired, and
   * what was ever seen under a listed label is listed.
   */
  retirement(keyId: string): 'no' | 'retired' | 'undecided' {
    if (!this.#config.retiredKeys.includes(keyId) || this.#isListed(keyId)) return 'no';
    // A damaged memory may have held it.
    return this.#options.memory.trustworthy && this.unsettled().length === 0 ? 'retired' : 'undecided';
  }

  /** Entries of the configuration of which it is not known which ids their keys have. */
  unsettled(): KeyConfig[] {
    return this.#config.keys.filter((config) => {
      const found = this.found(config);
      const isSearched = this.isKnown && this.#searched.has(searchFor(this.query(config)));
      if (!isSearched || found.length === 0) return true;
      return givenIds(config).length === 0 && found.some(({ token }) => !token.allIdsKnown);
    });
  }

  /** The failure of a Decrypt whose retired id may be listed as well. */
  undecided(keyId: string): KmsError {
    const labels = this.unsettled().map(({ label }) => `"${label}"`);
    const why =
      labels.length > 0
        ? `every listed key was found on the token with its ids, and ${labels.join(', ')} was not yet: bring the token or the key back, or take out of keys what is gone for good`
        : 'it is sure that this host never saw it under a listed label, and the memory of key ids in state_dir is damaged: remove key-ids.json';
    return new KmsError('retired-undecided', `key ${keyId} is in retired_keys, but is not refused before ${why}`, {
      keyId,
    });
  }

  /** Ids that are in `retired_keys` and this entry's as well. */
  retiredOf(config: KeyConfig): string[] {
    const found = this.found(config).flatMap(({ token }) => idsOf(token));
    return this.#config.retiredKeys.filter((id) => found.includes(id) || this.#mayBeOf(config, id));
  }

  /** Why no key answers to an id, once the token was searched: 'key-missing' or 'key-not-listed'. */
  whyNone(keyId: string): KmsError {
    const expected = this.#config.keys.filter((config) => this.#mayBeOf(config, keyId));
    const candidates = expected.length > 0 ? expected : this.absent();
    if (candidates.length === 0) {
      const dumb = this.#listed.filter(({ token }) => !token.allIdsKnown).map(({ config }) => `"${config.label}"`);
      const perhaps =
        dumb.length === 0
          ? ''
          : `. The token does not let the ids of ${dumb.join(', ')} be computed: if the key is that one, give it key_id: [${keyId}, and the id that \`kms-plugin keys list\` shows]`;
      return new KmsError(
        'key-not-listed',
        `key ${keyId} belongs to no listed key; list its label under keys with state: decrypt${perhaps}`,
        { keyId },
      );
    }
    const labels = candidates.map(({ label }) => `"${label}"`).join(', ');
    return new KmsError(
      'key-missing',
      `key ${keyId} is not on the token; it may be one of the listed keys that are missing there: ${labels}. Restore it from the HSM's backup`,
      { keyId },
    );
  }

  #isListed(keyId: string): boolean {
    return this.key(keyId) !== undefined || this.#config.keys.some((config) => this.#mayBeOf(config, keyId));
  }

  /** Whether the id was seen under the label before, or the configuration says so. */
  #mayBeOf(config: KeyConfig, keyId: string): boolean {
    return givenIds(config).includes(keyId) || this.#options.memory.seen(config.label).includes(keyId);
  }

  /**
   * Why an entry has no key, and what to do. To make one is offered first only where none can have been in use: another
   * key under the label would not read what is stored.
   */
  whyMissing(config: KeyConfig): string {
    const { memory } = this.#options;
    const { label } = config;
    const strangers = (this.#seen ?? []).filter((token) => !token.isKey && token.label === label);
    const beside = strangers.map(({ problems }) => ` (${problems.join('; ')})`).join('');
    const missing = `the token holds no AES key labelled "${label}"${beside}`;
    const restore = "see that this is the right partition, and restore the key from the HSM's backup";
    const never = 'A new key under its label would not read what is stored';
    if (memory.seen(label).length > 0) {
      return `${missing}, and this host has seen one (${memory.seen(label).join(', ')}): ${restore}. ${never}`;
    }
    if (config.keyId !== undefined) {
      return `${missing}, and key_id says that there is one (${givenIds(config).join(', ')}): ${restore}. ${never}`;
    }
    const unsure = memory.trustworthy
      ? memory.whyNotMake(label)
      : 'the memory of key ids in state_dir is damaged, so that one may have been in use';
    const look = unsure === undefined ? '' : `; ${unsure}: look at the partition with the vendor's tool first`;
    return `${missing}${look}. If a key was ever in use under this label, on any host, restore it from the HSM's backup; only where there never was one: \`kms-plugin keys create ${label}\``;
  }

  #choose(): void {
    const { memory, log, mayCreate } = this.#options;
    const { active } = this;
    try {
      this.#sealing = chooseSealingKey(active, this.#listed, {
        written: memory.written(active.label),
        ids: memory.ids(active.label),
        whyMissing: this.whyMissing(active),
      });
    } catch (error) {
      const failure = toKmsError(error);
      if (failure.kind === 'key-missing' && !this.#searched.has(searchFor(this.query(active)))) {
        this.#sealing = new KmsError('token-starting', `key "${active.label}" is being looked for on the token`);
        return;
      }
      const isNews = !(this.#sealing instanceof KmsError) || this.#sealing.message !== failure.message;
      if (isNews && !(failure.kind === 'key-missing' && mayCreate(active))) {
        log.error(failure.message, { code: failure.code, label: active.label });
      }
      this.#sealing = failure;
    }
  }

  #remember(): void {
    const { memory, log } = this.#options;
    const sealing = this.#sealing instanceof KmsError ? undefined : this.#sealing;
    for (const { config, token } of this.#listed) {
      if (config.allowUnsafe && token.unsafe.length > 0) {
        log.warn('a key is used though its attributes are unsafe', { label: config.label, unsafe: token.unsafe });
      }
      const ids = computedIdsOf(token);
      if (ids.length === 0) continue;
      const ckaId = token.ids.some(({ kind }) => kind === 'cka-id') ? token.attributes['cka_id'] : undefined;
      const named = token.ids.some(({ id, kind }) => kind === 'assumed' || givenIds(config).includes(id));
      memory.remember(config.label, ids, {
        named,
        ...(typeof ckaId === 'string' ? { ckaId } : {}),
        ...(sealing?.key.token === token ? { written: sealing.keyId } : {}),
      });
    }
    for (const config of this.#config.keys) {
      for (const keyId of this.retiredOf(config)) {
        log.error('a key id is both listed and in retired_keys; it counts as listed', {
          code: FAULTS['retired-listed'].code,
          keyId,
          label: config.label,
        });
      }
    }
  }
}
