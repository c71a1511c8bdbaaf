import type { PartitionSelector, ProfileName } from '../../config/index.ts';
import { candidates, type KeyHandles, type Profile } from '../profiles/index.ts';
import type { KeyQuery, TokenKey } from '../types.ts';
import { CkrError, constants, type Handle, type Pkcs11Module, type TokenFacts } from '../pkcs11/module.ts';
import { Sessions, type SessionPool } from '../pkcs11/session-pool.ts';
import type { IvTally } from './iv-tally.ts';
import { createKey } from './key-creation.ts';
import { keysUnder, searchKeys, type FoundKey } from './key-search.ts';
import { chooseProfile } from './profile-choice.ts';

/** The partition is not there or cannot be used as configured; the message says what to do. */
export class PartitionError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'PartitionError';
  }
}

/** A key's check value was refused, which is believed only when another login ends the same way. */
export class AskAgainError extends PartitionError {}

/** Keys whose check value the token refused, by login: of several connections in a row. */
export class Refusals {
  #before = new Set<string>();
  #now = new Set<string>();

  /** Another login has been made. */
  nextLogin(): void {
    this.#before = new Set([...this.#before, ...this.#now]);
    this.#now = new Set();
  }

  /** Throws AskAgainError where this is the first login that says so. */
  believe(keys: readonly FoundKey[]): void {
    const refused = keys.flatMap((found) => found.refused ?? []);
    for (const name of refused) this.#now.add(name);
    for (const name of [...this.#before]) if (!this.#now.has(name)) this.#before.delete(name);
    const fresh = keys.filter(({ refused: name }) => name !== undefined && !this.#before.has(name));
    if (fresh.length === 0) return;
    const labels = fresh.map(({ key }) => `"${key.label}"`).join(', ');
    throw new AskAgainError(
      `the token refuses AES-ECB and AES-CBC for key ${labels}, from which its id is computed; it is asked again after another login`,
    );
  }
}

/** How the configuration names the partition, for messages. */
export const describeSelector = (selector: PartitionSelector): string => {
  switch (selector.by) {
    case 'label':
      return `label "${selector.label}"`;
    case 'serial':
      return `serial ${selector.serial}`;
    case 'slot':
      return `slot ${selector.slot}`;
  }
};

/** A token as the module shows it; one that nobody has initialised has neither label nor serial number. */
const shown = ({ label, serial, slotId, flags }: Omit<TokenFacts, 'mechanisms'>): string =>
  (flags & constants.CKF_TOKEN_INITIALIZED) === 0
    ? `slot ${slotId} (not initialised)`
    : `"${label}" (serial ${serial}, slot ${slotId})`;

/** Finds the one token that the configuration means. Throws PartitionError, CkrError. */
function selectToken(module: Pkcs11Module, selector: PartitionSelector): TokenFacts {
  const tokens = module.tokens();
  const matching = tokens.filter((token) => {
    switch (selector.by) {
      case 'label':
        return token.label === selector.label;
      case 'serial':
        return token.serial === selector.serial;
      case 'slot':
        return token.slotId === selector.slot;
    }
  });
  const [token, another] = matching;
  if (token === undefined) {
    const seen = tokens.map(shown).join(', ');
    throw new PartitionError(
      `no token with ${describeSelector(selector)} (CKR_TOKEN_NOT_PRESENT); the module shows ${seen || 'no token at all'}: check token.partition and the HSM client's own configuration`,
    );
  }
  if (another !== undefined) {
    throw new PartitionError(
      `${matching.length} tokens have ${describeSelector(selector)} (serials ${matching.map((other) => other.serial).join(', ')}): choose one by token.partition.serial`,
    );
  }
  return { ...token, mechanisms: module.mechanisms(token.slot) };
}

/**
 * One connection to a partition: logged in, its sessions, the listed keys that it holds. It is thrown away whole when
 * the token is lost, since handles die with it.
 */
export class Partition {
  readonly module: Pkcs11Module;
  #token: TokenFacts;
  readonly pool: Sessions;
  readonly #wanted: ProfileName;
  readonly #ivs: IvTally;
  /** Somebody is logged in: as long as that lasts, private keys show. */
  readonly #loggedIn: boolean;
  readonly #refusals: Refusals;
  #profile: Profile;
  /** Why no profile fits, once one was tried on a key. */
  #misfit: string | undefined;
  #tried = false;
  #keys: readonly FoundKey[] = [];
  /** Searches begun, and the one that `#keys` is from: one that ends late must not undo a later one. */
  #searches = 0;
  #latest = 0;

  private constructor(
    module: Pkcs11Module,
    token: TokenFacts,
    pool: Sessions,
    profiles: { readonly wanted: ProfileName; readonly first: Profile },
    ivs: IvTally,
    refusals: Refusals,
  ) {
    this.#ivs = ivs;
    this.module = module;
    this.#token = token;
    this.#loggedIn = module.loggedIn(pool.anchor.handle);
    this.pool = pool;
    this.#wanted = profiles.wanted;
    this.#profile = profiles.first;
    this.#refusals = refusals;
    refusals.nextLogin();
  }

  /**
   * @param login - is given the session to log in on; it throws what ends the connecting.
   * @param ivs - told of the IVs of ours that self-tests take.
   * Throws CkrError, PartitionError, and what `login` throws.
   */
  static async connect(
    module: Pkcs11Module,
    settings: {
      readonly partition: PartitionSelector;
      readonly profile: ProfileName;
      readonly sessions: number;
    },
    login: (token: TokenFacts, session: Handle) => Promise<void>,
    queries: readonly KeyQuery[],
    ivs: IvTally,
    refusals: Refusals,
  ): Promise<Partition> {
    const token = selectToken(module, settings.partition);
    const [profile] = candidates(settings.profile, token);
    if (profile === undefined) {
      throw new PartitionError(
        `token "${token.label}" (${token.manufacturer} ${token.model}) offers neither CKM_AES_GCM nor CKM_AES_CBC with CKM_SHA256_HMAC: this plugin cannot use it`,
      );
    }
    module.closeLeftOpen(token.slot);
    const pool = new Sessions(module, token, settings.sessions);
    try {
      await login(token, pool.anchor.handle);
      const profiles = { wanted: settings.profile, first: profile };
      const partition = new Partition(module, token, pool, profiles, ivs, refusals);
      // The right PIN has reset what the token said of wrong ones.
      partition.readFlags();
      await partition.search(queries);
      return partition;
    } catch (error) {
      pool.close();
      throw error;
    }
  }

  get token(): TokenFacts {
    return this.#token;
  }

  /** Reads the token's flags again; a token in trouble keeps those of before. */
  readFlags(): void {
    try {
      this.#token = { ...this.#token, flags: this.module.token(this.#token.slot).flags };
    } catch {
      // A probe says so with more words.
    }
  }

  get profile(): Profile {
    return this.#profile;
  }

  get keys(): readonly TokenKey[] {
    return this.#keys.map(({ key }) =>
      this.#misfit === undefined ? key : { ...key, sealProblems: [...key.sealProblems, this.#misfit] },
    );
  }

  /** @returns the handles behind a key id, and whether a wrong tag can be proven under it. */
  handles(keyId: string): { readonly handles: KeyHandles; readonly provable: boolean } | undefined {
    for (const found of this.#keys) {
      const handles = found.handles.get(keyId);
      if (handles !== undefined) return { handles, provable: found.provable.has(keyId) };
    }
    return undefined;
  }

  /** Searches for listed keys, and tries the profile on the first that can be used. Throws CkrError, PartitionError. */
  async search(queries: readonly KeyQuery[]): Promise<void> {
    const search = ++this.#searches;
    const keys = await this.#onAnchor((pool) => this.#searchAndTry(queries, pool));
    await this.#confirmGone(queries, keys);
    if (search < this.#latest) return;
    this.#latest = search;
    this.#keys = keys;
  }

  /**
   * A session that died unnoticed finds nothing: a key that was found before is gone only when another session does not find
   * it either. Throws CkrError, PartitionError where the two differ.
   */
  async #confirmGone(queries: readonly KeyQuery[], found: readonly FoundKey[]): Promise<void> {
    const holds = (keys: readonly FoundKey[], label: string): boolean =>
      keys.some(({ key }) => key.isKey && key.label === label);
    for (const query of queries) {
      if (!holds(this.#keys, query.label) || holds(found, query.label)) continue;
      const again = await this.pool.use((session) =>
        Promise.resolve(keysUnder({ module: this.module, anchor: session.handle }, query)),
      );
      if (again.aes > 0)
        throw new PartitionError(`one session finds the key "${query.label}" and another one does not`);
    }
  }

  /**
   * Runs what looks at the token on the anchor. Where that does the operations, too, it is taken from them for so long: two
   * threads must not use one session at a time.
   */
  #onAnchor<T>(work: (pool: SessionPool) => Promise<T>): Promise<T> {
    if (!this.pool.alone) return work(this.pool);
    return this.pool.use((anchor) => work({ use: (inner) => inner(anchor) }));
  }

  async #searchAndTry(queries: readonly KeyQuery[], pool: SessionPool): Promise<readonly FoundKey[]> {
    const keys = await this.#searchWith(pool, queries);
    // Without a login, or where the token is gone, a search finds nothing and says CKR_OK.
    this.checkSession();
    this.#refusals.believe(keys);
    const probe = keys.find((found) => found.key.problems.length === 0 && found.key.attributes['encrypt'] !== false);
    const [named] = probe === undefined ? [] : [...probe.handles];
    if (!this.#tried && named !== undefined && (await this.#tryProfiles(pool, ...named))) {
      return this.#searchWith(pool, queries);
    }
    return keys;
  }

  /**
   * Makes what is missing of a key; nothing where it is there already, since the answer to an earlier request to make it
   * may have been lost. Throws CkrError, OperationError.
   */
  async create(query: KeyQuery): Promise<void> {
    this.checkSession();
    const context = { module: this.module, anchor: this.pool.anchor.handle };
    const there = await this.#onAnchor(() => Promise.resolve(keysUnder(context, query)));
    if (there.aes > 0) return;
    const missing = { aes: true, mac: this.#profile.scheme === 3 && there.macs === 0 };
    await this.pool.useWritable((session) => createKey(this.module, session, query, missing));
  }

  async #searchWith(pool: SessionPool, queries: readonly KeyQuery[]): Promise<FoundKey[]> {
    const { module, token } = this;
    const anchor = this.pool.anchor.handle;
    const profile = this.#profile;
    const profiles = candidates(this.#wanted, token);
    const found: FoundKey[] = [];
    for (const query of [...queries].sort((a, b) => Number(b.active) - Number(a.active))) {
      found.push(...(await searchKeys({ module, token, pool, anchor, profile, profiles, ivs: this.#ivs }, query)));
    }
    return found;
  }

  /** @returns whether the profile is another one now. Throws PartitionError when the token may be in trouble. */
  async #tryProfiles(pool: SessionPool, keyId: string, key: KeyHandles): Promise<boolean> {
    const choice = await chooseProfile(this.#wanted, this.token, pool, {
      key,
      countIv: () => this.#ivs.add(keyId),
    });
    switch (choice.kind) {
      case 'uncertain':
        throw new PartitionError(`the key's known-answer test failed: ${choice.why}`);
      case 'untried':
        return false;
      case 'misfit':
        this.#misfit = `no profile fits this token (${choice.why}); set token.profile or ask for support`;
        return false;
      case 'chosen': {
        this.#tried = true;
        this.#misfit = undefined;
        const changed = choice.profile !== this.#profile;
        this.#profile = choice.profile;
        return changed;
      }
    }
  }

  /** Cheap sign of life for a partition without keys. Throws CkrError. */
  checkSession(): void {
    this.module.token(this.token.slot);
    if (this.module.loggedIn(this.pool.anchor.handle) !== this.#loggedIn) {
      throw new CkrError('C_GetSessionInfo', 'CKR_USER_NOT_LOGGED_IN');
    }
  }

  close(): void {
    this.pool.close();
  }
}
