import type { Call } from '../call/index.ts';
import type { KeyConfig } from '../config/index.ts';
import { KmsError } from '../errors/index.ts';
import type { KeyQuery, Token, TokenKey } from '../token/index.ts';
import type { KeyMemory } from './key-memory.ts';
import { idsOf } from './listed-keys.ts';

/** What the configuration takes as a label. */
const LABEL_BYTES = 255;
const LABEL = /^[^\p{Cc}]+$/u;

/** How often a key is tried to be made by itself, where C_GenerateKey answers errors. */
const ATTEMPTS = 3;

/** Who has a key made: a person who looked, or `create: true`. */
export type Maker = 'person' | 'configuration';

/** Makes keys, and never where one is or was: a second key under a label splits what CredHub stores in two. */
export class KeyMaker {
  readonly #token: Token;
  readonly #memory: KeyMemory;
  readonly #listed: () => readonly KeyQuery[];
  readonly #queryFor: (config: KeyConfig) => KeyQuery;

  constructor(
    token: Token,
    memory: KeyMemory,
    listed: () => readonly KeyQuery[],
    queryFor: (config: KeyConfig) => KeyQuery,
  ) {
    this.#token = token;
    this.#memory = memory;
    this.#listed = listed;
    this.#queryFor = queryFor;
  }

  /** What is under a label, which need not be listed. Throws what the token throws. */
  async look(config: KeyConfig, call: Call): Promise<readonly TokenKey[]> {
    const listed = this.#listed();
    if (listed.some((query) => query.label === config.label)) {
      const keys = await this.#token.find(listed, call);
      return keys.filter((key) => key.label === config.label);
    }
    const keys = await this.#token.find([...listed, this.#queryFor(config)], call);
    // The next search, after a loss too, is for the listed keys again.
    await this.#token.find(this.#listed(), call);
    return keys.filter((key) => key.label === config.label);
  }

  /**
   * The intent is remembered before the HSM is asked: where it is not known what came of it, `create: true` makes no second
   * key, since a token that does not show what it made would be given key after key.
   *
   * @returns the key as it was found again. Throws KmsError 'key-create-refused', 'key-not-made', 'key-ambiguous',
   * 'key-missing'.
   */
  async create(config: KeyConfig, call: Call, by: Maker): Promise<TokenKey> {
    const { label } = config;
    this.#refuseWhereRemembered(config);
    for (let attempt = 1; ; attempt++) {
      const before = await this.#keys(config, call);
      // After an error, it was made all the same.
      if (before.length > 0 && attempt > 1) return this.#theOne(config, before);
      if (before.length > 0) {
        this.#memory.remember(label, before.flatMap(idsOf));
        throw new KmsError('key-create-refused', `the token holds a key labelled "${label}" already`);
      }
      const failure = await this.#attempt(config, call, by);
      if (failure === undefined) return this.#theOne(config, await this.#keys(config, call));
      if (by === 'person' || attempt >= ATTEMPTS) {
        const made = await this.#keys(config, call);
        if (made.length > 0) return this.#theOne(config, made);
        throw failure;
      }
    }
  }

  /** @returns the error with which C_GenerateKey made no key. Throws KmsError: other failures, after which one may be made. */
  async #attempt(config: KeyConfig, call: Call, by: Maker): Promise<KmsError | undefined> {
    const { label } = config;
    const why = by === 'configuration' ? this.#memory.whyNotMake(label) : undefined;
    if (why !== undefined) {
      throw new KmsError(
        'key-create-refused',
        `no key labelled "${label}" is made by itself: ${why}. Look at the partition with the vendor's tool; where there is none: \`kms-plugin keys create ${label}\``,
      );
    }
    if (!this.#memory.beginMaking(label)) {
      throw new KmsError(
        'key-create-refused',
        `no key labelled "${label}" is made, since that could not be remembered: free some space in state_dir or make it writable`,
      );
    }
    try {
      await this.#token.create(this.#queryFor(config), call);
      return undefined;
    } catch (error) {
      if (!(error instanceof KmsError)) throw error;
      const isAnswer = error.kind === 'key-not-made' || error.kind === 'key-create-refused';
      if (isAnswer || error.facts['unsent'] === true) this.#memory.endMaking(label, isAnswer);
      if (error.kind !== 'key-not-made') throw error;
      return error;
    }
  }

  /** AES keys under the label. Throws KmsError 'key-create-refused' for what else is there, but second keys of scheme 3. */
  async #keys(config: KeyConfig, call: Call): Promise<readonly TokenKey[]> {
    const seen = await this.look(config, call);
    const stranger = seen.find((key) => !key.isKey && key.attributes['only_second_keys'] !== true);
    if (stranger !== undefined) {
      throw new KmsError(
        'key-create-refused',
        `"${config.label}": ${stranger.problems.join('; ')}; choose another label`,
      );
    }
    return seen.filter((key) => key.isKey);
  }

  #theOne({ label }: KeyConfig, keys: readonly TokenKey[]): TokenKey {
    const [key, another] = keys;
    if (key === undefined) {
      throw new KmsError(
        'key-missing',
        `a key labelled "${label}" was made but is not found again; look at the token with the vendor's tool before anything else`,
      );
    }
    const ids = keys.flatMap(idsOf);
    this.#memory.remember(label, ids, { named: true });
    if (another !== undefined) {
      throw new KmsError(
        'key-ambiguous',
        `two keys are labelled "${label}" now, since another host made one at the same moment: set key_id on every host to the one in use (kms-plugin keys list counts operations); both decrypt`,
      );
    }
    return key;
  }

  #refuseWhereRemembered({ label, keyId }: KeyConfig): void {
    if (!LABEL.test(label) || Buffer.byteLength(label) > LABEL_BYTES) {
      throw new KmsError(
        'key-create-refused',
        `a label has 1 to ${LABEL_BYTES} bytes and no control characters: the configuration could not list this one`,
      );
    }
    if (keyId !== undefined) {
      throw new KmsError(
        'key-create-refused',
        `key "${label}" has a key_id, so it exists somewhere: restore it from the HSM's backup`,
      );
    }
    if (!this.#memory.trustworthy) {
      throw new KmsError(
        'key-create-refused',
        'the memory of key ids in state_dir is damaged: a key may have been in use; mend or remove key-ids.json',
      );
    }
    if (this.#memory.knows(label)) {
      throw new KmsError(
        'key-create-refused',
        `a key labelled "${label}" was in use before (ids ${this.#memory.seen(label).join(', ')}): restore it from the HSM's backup, or choose another label`,
      );
    }
  }
}
