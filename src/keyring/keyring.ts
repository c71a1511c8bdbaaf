import { abandonable, ownCall, type Call } from '../call/index.ts';
import { Cipher, parseCiphertext, type DataKeyReport, type ParsedCiphertext } from '../cipher/index.ts';
import type { Config, KeyConfig } from '../config/index.ts';
import { KmsError, toKmsError } from '../errors/index.ts';
import type { Log } from '../log/index.ts';
import type { KeyQuery, Token } from '../token/index.ts';
import { IvCounts } from './iv-counts.ts';
import { KeyMaker, type Maker } from './key-maker.ts';
import { KeyMemory } from './key-memory.ts';
import { KeyTable } from './key-table.ts';
import { idsOf, listedKey, refuseObstacles, type ListedKey, type SealingChoice } from './listed-keys.ts';
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
  /** How often keys that were all found are looked for again, in milliseconds; a minute by default. */
  readonly lookMs?: number;
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
  readonly #missing: MissingKeys;
  readonly #table: KeyTable;

  constructor(options: KeyringOptions) {
    this.#token = options.token;
    this.#log = options.log;
    this.#cipher = new Cipher(options.token, options.config.scheme);
    this.#memory = new KeyMemory(options.stateDir, options.log);
    this.#ivs = new IvCounts(options.stateDir, options.log);
    options.token.onIvs((keyId, ivs) => this.#ivs.add(keyId, ivs));
    this.#search = new SearchAgain((call) => this.#find(call));
    this.#maker = new KeyMaker(
      options.token,
      this.#memory,
      () => this.#queries(),
      (config) => this.#table.query(config),
    );
    this.#missing = new MissingKeys({
      memory: this.#memory,
      log: options.log,
      search: () => this.#search.now(ownCall(OWN_CALL_MS)),
      create: (label) => this.createKey(label, ownCall(OWN_CALL_MS), 'configuration'),
      isThere: (config) => this.#table.found(config).length > 0,
      ...(options.lookMs === undefined ? {} : { lookMs: options.lookMs }),
    });
    this.#table = new KeyTable({
      config: options.config,
      memory: this.#memory,
      log: options.log,
      mayCreate: (config) => this.#missing.mayCreate(config),
    });
    options.token.onChange(() => this.#changed());
  }

  /** Starts to reach the token. Returns at once. */
  start(): void {
    const queries = this.#queries();
    this.#table.asked(queries);
    this.#token.start(queries);
  }

  /** Takes the keys, retired keys and scheme of a new configuration; a call in flight keeps what it has. */
  reload(config: Config): void {
    this.#cipher.configure(config.scheme);
    this.#token.configure(config.limits);
    this.#table.configure(config);
    this.#changed();
    void this.#find(ownCall(OWN_CALL_MS)).catch((error: unknown) => {
      const { code, message: reason } = toKmsError(error);
      this.#log.warn('the keys of the new configuration could not be looked for yet', { code, reason });
    });
  }

  async encrypt(plaintext: Buffer, call: Call): Promise<EncryptResult> {
    const { limits } = this.#table.config;
    if (plaintext.length > limits.valueBytes) {
      throw new KmsError(
        'value-too-large',
        `the value has ${plaintext.length} bytes, limits.value is ${limits.valueBytes}`,
        { bytes: plaintext.length },
      );
    }
    try {
      const { sealing } = this.#table;
      const choice = sealing instanceof KmsError ? await this.#sealingKey(call) : sealing;
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
    const key = this.#table.key(keyId) ?? (await this.#listedKeyAfterSearch(parsed, call));
    refuseObstacles(key, parsed.envelope?.dataKey.innerScheme ?? parsed.scheme);
    let plaintext: Buffer;
    try {
      plaintext = await this.#cipher.open(parsed, call);
    } catch (error) {
      if (!isGone(error)) throw error;
      await this.#search.now(call);
      if (this.#table.key(keyId) === undefined) throw error;
      plaintext = await this.#cipher.open(parsed, call);
    }
    this.#uses.decrypted(keyId);
    return { plaintext, keyId };
  }

  undecided(ciphertext: Buffer): KmsError | undefined {
    const { keyId } = parseCiphertext(ciphertext);
    return this.#table.retirement(keyId) === 'undecided' ? this.#table.undecided(keyId) : undefined;
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
    const { sealing, active } = this.#table;
    const activeKeyId = sealing instanceof KmsError ? this.#memory.written(active.label) : sealing.keyId;
    // Known until a search finds it, also while the token is away.
    const activeKeyGone = sealing instanceof KmsError && sealing.kind === 'key-missing';
    const common = { availability: state, activeKeyId, activeKeyGone, servesCached: this.#cipher.servesCached };
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
    return this.#table.config.keys.map((config) => keyReport(config, this.#table, this.#sources));
  }

  /** The same after a search of now; as they were found last where the token cannot be searched within that call. */
  async searchedKeys(call: Call): Promise<readonly KeyReport[]> {
    await this.#search.now(call).catch(() => undefined);
    return this.keys();
  }

  /** What an operator should look at, for status. */
  warnings(): readonly string[] {
    return keyWarnings(this.#table, this.#ivs);
  }

  /** Encryptions whose IV this side chose, by key id. */
  ivCount(keyId: string): number {
    return this.#ivs.count(keyId);
  }

  /**
   * Makes a key under a label, listed or not, and finds it again. Throws KmsError 'key-create-refused' where one is, was or
   * may have been, 'key-ambiguous' when another host made one at the same moment.
   */
  async createKey(label: string, call: Call, by: Maker = 'person'): Promise<FoundKeyReport> {
    const config = this.#table.config.keys.find((key) => key.label === label) ?? this.#unlisted(label);
    await this.#token.ready(call);
    try {
      const token = await this.#maker.create(config, call, by);
      this.#log.info('key created', { label, keyId: token.ids[0]?.id });
      this.#missing.searchForTwin();
      return foundKeyReport(listedKey(config, token), this.#sources);
    } finally {
      this.#changed();
    }
  }

  /** Everything about the keys under one label, listed or not. */
  async inspect(label: string, call: Call): Promise<KeyReport> {
    const config = this.#table.config.keys.find((key) => key.label === label) ?? this.#unlisted(label);
    await this.#token.ready(call);
    const found = await this.#maker.look(config, call);
    return {
      label,
      state: config.state,
      encryptedHere: this.#memory.written(label) !== undefined,
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
    return { memory: this.#memory, uses: this.#uses, sealing: this.#table.sealing };
  }

  #unlisted(label: string): KeyConfig {
    const [, ckaId] = /^cka_id:((?:[0-9a-f]{2})+)$/.exec(label) ?? [];
    const found = ckaId === undefined ? {} : { ckaId, anyLabel: true as const };
    return { label, ...found, state: 'decrypt', create: false, size: 256, allowUnsafe: false };
  }

  #queries(): KeyQuery[] {
    return this.#table.config.keys.map((config) => this.#table.query(config));
  }

  /** The keys of the token changed, or its state: everything that is derived from them is derived anew. */
  #changed(): void {
    const keys = this.#token.keys();
    const isReady = this.#token.condition().state === 'ready';
    // With the token away a new configuration holds for the keys last found: cached data keys still serve.
    if ((isReady || keys.length > 0) && this.#table.take(keys)) {
      this.#cipher.keepOnly(new Set(this.#table.listed.flatMap((key) => idsOf(key.token))));
    }
    this.#table.logMissing();
    const { sealing } = this.#table;
    if (isReady && !(sealing instanceof KmsError)) {
      this.#cipher.keepReady({ keyId: sealing.keyId, token: sealing.key.token });
    }
    this.#missing.look(isReady ? this.#table.absent() : undefined);
    for (const listener of [...this.#listeners]) listener();
  }

  async #find(call: Call): Promise<void> {
    const queries = this.#queries();
    await this.#token.find(queries, call);
    this.#table.asked(queries);
    this.#changed();
  }

  async #sealingKey(call: Call): Promise<SealingChoice> {
    const table = this.#table;
    if (!(table.sealing instanceof KmsError)) return table.sealing;
    await this.#token.ready(call);
    if (this.#missing.creation !== undefined) await abandonable(this.#missing.creation, call.signal);
    // Whatever is wrong with it may have changed; a key that another host is making shows half of itself for a moment.
    if (table.sealing instanceof KmsError) await this.#search.now(call);
    // A new configuration came during that search: it was not for its keys.
    while (isUnsearched(table.sealing)) await this.#search.now(call);
    if (table.sealing instanceof KmsError) throw table.sealing;
    return table.sealing;
  }

  async #seal({ key, keyId }: SealingChoice, plaintext: Buffer, call: Call): Promise<EncryptResult> {
    const ciphertext = await this.#cipher.seal({ keyId, token: key.token }, plaintext, call);
    this.#uses.encrypted(keyId);
    return { ciphertext, keyId };
  }

  /** Everything that can be said of a ciphertext without the HSM. Throws KmsError. */
  #parse(ciphertext: Buffer, expectedKeyId: string | undefined): ParsedCiphertext {
    const parsed = parseCiphertext(ciphertext);
    const { keyId } = parsed;
    if (this.#table.retirement(keyId) === 'retired') throw retired(keyId);
    if (expectedKeyId !== undefined && expectedKeyId !== keyId) {
      throw new KmsError(
        'key-id-mismatch',
        `key_id names another key than the ciphertext does, whose key is ${keyId}: give back the key_id that Encrypt gave, or none`,
        { keyId },
      );
    }
    return parsed;
  }

  /**
   * For an id that no listed key found so far answers to. Throws KmsError 'key-missing', 'key-not-listed', 'key-retired',
   * 'retired-undecided'.
   */
  async #listedKeyAfterSearch({ keyId }: ParsedCiphertext, call: Call): Promise<ListedKey> {
    try {
      await this.#token.ready(call);
      const known = this.#table.key(keyId);
      if (known !== undefined) return known;
      await this.#search.now(call);
    } catch (error) {
      const isOut = error instanceof KmsError && (error.kind === 'token-away' || error.kind === 'token-starting');
      if (isOut && this.#table.retirement(keyId) === 'undecided') throw this.#table.undecided(keyId);
      throw error;
    }
    const found = this.#table.key(keyId);
    if (found !== undefined) return found;
    switch (this.#table.retirement(keyId)) {
      case 'retired':
        throw retired(keyId);
      case 'undecided':
        throw this.#table.undecided(keyId);
      case 'no':
        throw this.#table.whyNone(keyId);
    }
  }
}

const retired = (keyId: string): KmsError =>
  new KmsError('key-retired', `key ${keyId} is in retired_keys: its values count as not ours`, { keyId });

/** The token process does not hold a key that was found before: its last search was for others, or it is a successor. */
const isGone = (error: unknown): boolean => error instanceof KmsError && error.kind === 'key-missing';

const isUnsearched = (sealing: SealingChoice | KmsError): boolean =>
  sealing instanceof KmsError && sealing.kind === 'token-starting';
