import { abandonable, ownCall, type Call } from '../call/index.ts';
import { Cipher, parseCiphertext, type DataKeyReport, type ParsedCiphertext } from '../cipher/index.ts';
import type { Config, KeyConfig } from '../config/index.ts';
import { FAULTS, KmsError, toKmsError } from '../errors/index.ts';
import type { Log } from '../log/index.ts';
import type { KeyQuery, Token, TokenKey } from '../token/index.ts';
import { IvCounts } from './iv-counts.ts';
import { KeyMaker } from './key-maker.ts';
import { KeyMemory } from './key-memory.ts';
import {
  byId,
  chooseSealingKey,
  idsOf,
  listedKey,
  listedKeys,
  queryFor,
  refuseObstacles,
  type ListedKey,
  type SealingChoice,
} from './listed-keys.ts';
import { MissingKeys } from './missing-keys.ts';
import type { FoundKeyReport, KeyReport } from './report.ts';
import { foundKeyReport, keyReport, keyWarnings, type ReportSources } from './reporting.ts';
import { SearchAgain } from './search-again.ts';
import type { DecryptResult, EncryptResult, Keyring, KeyringHealth } from './types.ts';
import { Uses } from './uses.ts';

export interface KeyringOptions {
  readonly token: Token;
  readonly config: Config;
  readonly stateDir: string;
  readonly log: Log;
}

/** How long the keyring's own searches may take, in milliseconds. */
const OWN_CALL_MS = 10_000;

/** The keys of one configuration on one token. */
export class HsmKeyring implements Keyring {
  readonly #token: Token;
  readonly #cipher: Cipher;
  readonly #log: Log;
  readonly #memory: KeyMemory;
  readonly #ivs: IvCounts;
  readonly #uses = new Uses();
  readonly #search: SearchAgain;
  readonly #maker: KeyMaker;
  readonly #listeners = new Set<() => void>();
  #config: Config;
  #listed: readonly ListedKey[] = [];
  #byId: ReadonlyMap<string, ListedKey> = new Map();
  #seen: readonly TokenKey[] | undefined;
  #sealing: SealingChoice | KmsError = new KmsError('token-starting', 'the token has not been reached yet');
  /** Labels that the token was asked for: of others it is not known whether it holds them. */
  #searched: ReadonlySet<string> = new Set();
  readonly #missing: MissingKeys;

  constructor(options: KeyringOptions) {
    this.#token = options.token;
    this.#config = options.config;
    this.#log = options.log;
    this.#cipher = new Cipher(options.token, options.config.scheme, (keyId) => this.#ivs.add(keyId, 1));
    this.#memory = new KeyMemory(options.stateDir, options.log);
    this.#ivs = new IvCounts(options.stateDir, options.log);
    this.#search = new SearchAgain((call) => this.#find(call));
    this.#maker = new KeyMaker(options.token, this.#memory, () => this.#queries());
    this.#missing = new MissingKeys({
      memory: this.#memory,
      log: options.log,
      search: () => this.#search.now(ownCall(OWN_CALL_MS)),
      create: (label) => this.createKey(label, ownCall(OWN_CALL_MS)),
      isThere: (config) => this.#listed.some((key) => key.config === config),
    });
    options.token.onChange(() => this.#changed());
  }

  /** Starts to reach the token. Returns at once. */
  start(): void {
    const queries = this.#queries();
    this.#searched = new Set(queries.map(({ label }) => label));
    this.#token.start(queries);
  }

  /** Takes the keys, retired keys and scheme of a new configuration; a call in flight keeps what it has. */
  reload(config: Config): void {
    this.#config = config;
    this.#cipher.configure(config.scheme);
    this.#token.configure(config.limits);
    this.#seen = undefined;
    this.#changed();
    void this.#find(ownCall(OWN_CALL_MS)).catch((error: unknown) => {
      const { code, message: reason } = toKmsError(error);
      this.#log.warn('the keys of the new configuration could not be looked for yet', { code, reason });
    });
  }

  async encrypt(plaintext: Buffer, call: Call): Promise<EncryptResult> {
    const { limits } = this.#config;
    if (plaintext.length > limits.valueBytes) {
      throw new KmsError(
        'value-too-large',
        `the value has ${plaintext.length} bytes, limits.value is ${limits.valueBytes}`,
        { bytes: plaintext.length },
      );
    }
    try {
      const choice = this.#sealing instanceof KmsError ? await this.#sealingKey(call) : this.#sealing;
      return await this.#seal(choice, plaintext, call);
    } catch (error) {
      if (!isGone(error)) throw error;
      await this.#search.now(call);
      return this.#seal(await this.#sealingKey(call), plaintext, call);
    }
  }

  async decrypt(ciphertext: Buffer, call: Call, expectedKeyId?: string): Promise<DecryptResult> {
    const parsed = this.#parse(ciphertext, expectedKeyId);
    const { keyId } = parsed;
    const key = this.#listedKey(keyId) ?? (await this.#listedKeyAfterSearch(parsed, call));
    refuseObstacles(key);
    let plaintext: Buffer;
    try {
      plaintext = await this.#cipher.open(parsed, call);
    } catch (error) {
      if (!isGone(error)) throw error;
      await this.#search.now(call);
      if (this.#listedKey(keyId) === undefined) throw error;
      plaintext = await this.#cipher.open(parsed, call);
    }
    this.#uses.decrypted(keyId);
    return { plaintext, keyId };
  }

  refusal(ciphertext: Buffer, expectedKeyId?: string): KmsError | undefined {
    try {
      this.#parse(ciphertext, expectedKeyId);
      return undefined;
    } catch (error) {
      return toKmsError(error);
    }
  }

  health(): KeyringHealth {
    const { state, reason } = this.#token.condition();
    const sealing = this.#sealing;
    const activeKeyId = sealing instanceof KmsError ? this.#memory.written(this.#active().label) : sealing.keyId;
    const common = { availability: state, activeKeyId, servesCached: this.#cipher.servesCached };
    if (state !== 'ready') return { ...common, ok: false, reason: reason + this.#cachedNote() };
    if (sealing instanceof KmsError) return { ...common, ok: false, reason: sealing.message };
    return { ...common, ok: true, reason: 'ok' };
  }

  /** Data keys kept in this process; what of them still works while the HSM is away. */
  dataKeys(): DataKeyReport {
    return this.#cipher.report();
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  keys(): readonly KeyReport[] {
    const searched = this.#seen !== undefined;
    return this.#config.keys.map((config) => {
      const found = this.#listed.filter((key) => key.config === config);
      return keyReport(config, found, searched, this.#sources);
    });
  }

  /** What an operator should look at, for status. */
  warnings(): readonly string[] {
    return keyWarnings(this.#config, this.#listed, this.#ivs);
  }

  /** Encryptions whose IV this side chose, by key id. */
  ivCount(keyId: string): number {
    return this.#ivs.count(keyId);
  }

  /**
   * Makes a key under a label, listed or not, and finds it again. Throws KmsError 'key-create-refused' where one is, was or
   * may have been, 'key-ambiguous' when another host made one at the same moment.
   */
  async createKey(label: string, call: Call): Promise<FoundKeyReport> {
    const config = this.#config.keys.find((key) => key.label === label) ?? this.#unlisted(label);
    await this.#token.ready(call);
    try {
      const token = await this.#maker.create(config, call);
      this.#log.info('key created', { label, keyId: token.ids[0]?.id });
      this.#missing.searchForTwin();
      return foundKeyReport(listedKey(config, token), this.#sources);
    } finally {
      this.#changed();
    }
  }

  /** Everything about the keys under one label, listed or not. */
  async inspect(label: string, call: Call): Promise<KeyReport> {
    const config = this.#config.keys.find((key) => key.label === label) ?? this.#unlisted(label);
    await this.#token.ready(call);
    const found = await this.#maker.look(config, call);
    return {
      label,
      state: config.state,
      found: found.map((token) => foundKeyReport(listedKey(config, token), this.#sources)),
    };
  }

  async close(): Promise<void> {
    this.#missing.close();
    await this.#token.close();
    this.#cipher.close();
    this.#ivs.close();
  }

  #cachedNote(): string {
    if (!this.#cipher.servesCached) return '';
    const { cached, encryptsUntil } = this.#cipher.report();
    const encrypts = encryptsUntil === undefined ? '' : `, Encrypt goes on until ${encryptsUntil}`;
    return `; meanwhile ${cached} cached data ${cached === 1 ? 'key decrypts' : 'keys decrypt'}${encrypts}`;
  }

  get #sources(): ReportSources {
    return { memory: this.#memory, uses: this.#uses, sealing: this.#sealing };
  }

  #unlisted(label: string): KeyConfig {
    return { label, state: 'decrypt', create: false, size: 256, allowUnsafe: false };
  }

  #queries(): KeyQuery[] {
    return this.#config.keys.map(queryFor);
  }

  #active(): KeyConfig {
    const active = this.#config.keys.find((key) => key.state === 'active');
    if (active === undefined) throw new TypeError('the configuration has no active key');
    return active;
  }

  /** The keys of the token changed, or its state: everything that is derived from them is derived anew. */
  #changed(): void {
    const keys = this.#token.keys();
    // With the token away a new configuration holds for the keys last found: cached data keys still serve.
    if (keys !== this.#seen && (this.#token.condition().state === 'ready' || keys.length > 0)) {
      this.#seen = keys;
      this.#listed = listedKeys(this.#config.keys, keys);
      this.#byId = byId(this.#listed);
      this.#cipher.keepOnly(new Set(this.#listed.flatMap((key) => idsOf(key.token))));
      this.#choose();
      this.#rememberSeen();
    }
    this.#missing.look(this.#token.condition().state === 'ready' ? this.#absent() : []);
    for (const listener of [...this.#listeners]) listener();
  }

  #choose(): void {
    const active = this.#active();
    try {
      this.#sealing = chooseSealingKey(active, this.#listed, this.#memory.written(active.label));
    } catch (error) {
      const failure = toKmsError(error);
      if (failure.kind === 'key-missing' && !this.#searched.has(active.label)) {
        this.#sealing = new KmsError('token-starting', `key "${active.label}" is being looked for on the token`);
        return;
      }
      const isNews = !(this.#sealing instanceof KmsError) || this.#sealing.message !== failure.message;
      if (isNews && !(failure.kind === 'key-missing' && this.#missing.mayCreate(active))) {
        this.#log.error(failure.message, { code: failure.code, label: active.label });
      }
      this.#sealing = failure;
    }
  }

  #rememberSeen(): void {
    for (const { config, token } of this.#listed) {
      if (config.allowUnsafe && token.unsafe.length > 0) {
        this.#log.warn('a key is used though its attributes are unsafe', { label: config.label, unsafe: token.unsafe });
      }
      if (token.ids.length === 0) continue;
      const writes = !(this.#sealing instanceof KmsError) && this.#sealing.key.token === token;
      this.#memory.remember(config.label, idsOf(token), writes ? (this.#sealing as SealingChoice).keyId : undefined);
      for (const id of idsOf(token)) {
        if (this.#config.retiredKeys.includes(id)) {
          this.#log.error('a key id is both listed and in retired_keys; it counts as listed', {
            code: FAULTS['retired-listed'].code,
            keyId: id,
            label: config.label,
          });
        }
      }
    }
  }

  /** Entries of the configuration that no key was found for. */
  #absent(): KeyConfig[] {
    return this.#config.keys.filter((config) => !this.#listed.some((key) => key.config === config));
  }

  async #find(call: Call): Promise<void> {
    const queries = this.#queries();
    await this.#token.find(queries, call);
    this.#searched = new Set(queries.map(({ label }) => label));
    this.#changed();
  }

  async #sealingKey(call: Call): Promise<SealingChoice> {
    if (!(this.#sealing instanceof KmsError)) return this.#sealing;
    await this.#token.ready(call);
    if (this.#missing.creation !== undefined) await abandonable(this.#missing.creation, call.signal);
    // Whatever is wrong with it may have changed; a key that another host is making shows half of itself for a moment.
    if (this.#sealing instanceof KmsError) await this.#search.now(call);
    // A new configuration came during that search: it was not for its keys.
    while (isUnsearched(this.#sealing)) await this.#search.now(call);
    if (this.#sealing instanceof KmsError) throw this.#sealing;
    return this.#sealing;
  }

  async #seal({ key, keyId }: SealingChoice, plaintext: Buffer, call: Call): Promise<EncryptResult> {
    const ciphertext = await this.#cipher.seal({ keyId, token: key.token }, plaintext, call);
    this.#uses.encrypted(keyId);
    return { ciphertext, keyId };
  }

  #listedKey(keyId: string): ListedKey | undefined {
    return this.#byId.get(keyId);
  }

  /** Everything that can be said of a ciphertext without the HSM. Throws KmsError. */
  #parse(ciphertext: Buffer, expectedKeyId: string | undefined): ParsedCiphertext {
    const parsed = parseCiphertext(ciphertext);
    const { keyId } = parsed;
    if (this.#config.retiredKeys.includes(keyId) && !this.#isListed(keyId)) {
      throw new KmsError('key-retired', `key ${keyId} is in retired_keys: its values count as not ours`, { keyId });
    }
    if (expectedKeyId !== undefined && expectedKeyId !== keyId) {
      throw new KmsError('key-id-mismatch', `key_id is not the one of the ciphertext, ${keyId}`, { keyId });
    }
    return parsed;
  }

  /** Listed counts more than retired. Of an entry whose key is not known to be on the token, memory tells. */
  #isListed(keyId: string): boolean {
    if (this.#listedKey(keyId) !== undefined) return true;
    const unknown = new Set(this.#absent());
    return this.#config.keys.some((config) =>
      unknown.has(config) ? this.#mayBeOf(config, keyId) : config.keyId === keyId,
    );
  }

  /** Whether the id was seen under the label before, or the configuration says so. */
  #mayBeOf(config: KeyConfig, keyId: string): boolean {
    return config.keyId === keyId || this.#memory.ids(config.label).includes(keyId);
  }

  /** For an id that no listed key found so far answers to. */
  async #listedKeyAfterSearch({ keyId }: ParsedCiphertext, call: Call): Promise<ListedKey> {
    const expected = this.#config.keys.filter((config) => this.#mayBeOf(config, keyId));
    await this.#token.ready(call);
    const known = this.#listedKey(keyId);
    if (known !== undefined) return known;
    await this.#search.now(call);
    const found = this.#listedKey(keyId);
    if (found !== undefined) return found;
    const candidates = expected.length > 0 ? expected : this.#absent();
    if (candidates.length > 0) {
      const labels = candidates.map((config) => `"${config.label}"`).join(', ');
      throw new KmsError(
        'key-missing',
        `key ${keyId} is not on the token; it may be one of the listed keys that are missing there: ${labels}. Restore it from the HSM's backup`,
        { keyId },
      );
    }
    throw new KmsError(
      'key-not-listed',
      `key ${keyId} belongs to no listed key; list its label under keys with state: decrypt`,
      { keyId },
    );
  }
}

/** The token process does not hold a key that was found before: its last search was for others, or it is a successor. */
const isGone = (error: unknown): boolean => error instanceof KmsError && error.kind === 'key-missing';

const isUnsearched = (sealing: SealingChoice | KmsError): boolean =>
  sealing instanceof KmsError && sealing.kind === 'token-starting';
