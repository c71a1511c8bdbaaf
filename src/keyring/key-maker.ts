import type { Call } from '../call/index.ts';
import type { KeyConfig } from '../config/index.ts';
import { KmsError } from '../errors/index.ts';
import type { KeyQuery, Token, TokenKey } from '../token/index.ts';
import type { KeyMemory } from './key-memory.ts';
import { idsOf, queryFor } from './listed-keys.ts';

/** What the configuration takes as a label. */
const LABEL_BYTES = 255;
const LABEL = /^[^\p{Cc}]+$/u;

/** Makes keys, and never where one is or was: a second key under a label splits what CredHub stores in two. */
export class KeyMaker {
  readonly #token: Token;
  readonly #memory: KeyMemory;
  readonly #listed: () => readonly KeyQuery[];

  constructor(token: Token, memory: KeyMemory, listed: () => readonly KeyQuery[]) {
    this.#token = token;
    this.#memory = memory;
    this.#listed = listed;
  }

  /** The keys under a label, which need not be listed. Throws what the token throws. */
  async look(config: KeyConfig, call: Call): Promise<readonly TokenKey[]> {
    const listed = this.#listed();
    if (listed.some((query) => query.label === config.label)) {
      const keys = await this.#token.find(listed, call);
      return keys.filter((key) => key.label === config.label);
    }
    const keys = await this.#token.find([...listed, queryFor(config)], call);
    // The next search, after a loss too, is for the listed keys again.
    await this.#token.find(this.#listed(), call);
    return keys.filter((key) => key.label === config.label);
  }

  /** @returns the key as it was found again. Throws KmsError 'key-create-refused', 'key-ambiguous', 'key-missing'. */
  async create(config: KeyConfig, call: Call): Promise<TokenKey> {
    const { label } = config;
    this.#refuseWhereRemembered(config);
    const before = await this.look(config, call);
    if (before.length > 0) {
      this.#memory.remember(label, before.flatMap(idsOf));
      throw new KmsError('key-create-refused', `the token holds a key labelled "${label}" already`);
    }
    await this.#token.create(queryFor(config), call);
    const [key, another] = await this.look(config, call);
    if (key === undefined) {
      throw new KmsError(
        'key-missing',
        `a key labelled "${label}" was made but is not found again; look at the token with the vendor's tool before anything else`,
      );
    }
    this.#memory.remember(label, idsOf(key));
    if (another !== undefined) {
      this.#memory.remember(label, idsOf(another));
      throw new KmsError(
        'key-ambiguous',
        `two keys are labelled "${label}" now, since another host made one at the same moment: delete the one that was not used, or set key_id on every host`,
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
        `a key labelled "${label}" was in use before (ids ${this.#memory.ids(label).join(', ')}): restore it from the HSM's backup, or choose another label`,
      );
    }
  }
}
