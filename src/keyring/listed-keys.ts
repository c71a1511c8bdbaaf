import type { KeyConfig } from '../config/index.ts';
import { KmsError } from '../errors/index.ts';
import type { KeyQuery, TokenKey } from '../token/index.ts';

/** One key that was found on the token under a listed label. */
export interface ListedKey {
  readonly config: KeyConfig;
  readonly token: TokenKey;
  /** Everything that keeps it from being used at all. */
  readonly obstacles: readonly string[];
}

export const listedKey = (config: KeyConfig, token: TokenKey): ListedKey => ({
  config,
  token,
  obstacles: obstaclesOf(config, token),
});

/** Ids that the configuration gives a key; the first names it. */
export const givenIds = ({ keyId, moreIds = [] }: KeyConfig): string[] =>
  keyId === undefined ? [] : [keyId, ...moreIds];

/** @param remembered - ids that were computed before for keys under the label, with their CKA_ID. */
export const queryFor = (config: KeyConfig, remembered: KeyQuery['remembered']): KeyQuery => ({
  label: config.label,
  ...(config.ckaId === undefined ? {} : { ckaId: config.ckaId }),
  ...(config.anyLabel === true ? { anyLabel: true } : {}),
  macLabel: config.macLabel,
  sizeBits: config.size,
  active: config.state === 'active',
  remembered,
  given: givenIds(config),
});

/** Pairs what the token shows with what the configuration lists. */
export function listedKeys(configs: readonly KeyConfig[], tokenKeys: readonly TokenKey[]): ListedKey[] {
  return configs.flatMap((config) =>
    tokenKeys.filter((token) => token.isKey && token.label === config.label).map((token) => listedKey(config, token)),
  );
}

/** The key that answers to an id; of several the one listed first. */
export function byId(keys: readonly ListedKey[]): ReadonlyMap<string, ListedKey> {
  return new Map(keys.toReversed().flatMap((key) => idsOf(key.token).map((id) => [id, key])));
}

export const idsOf = (key: TokenKey): string[] => key.ids.map(({ id }) => id);

/** Those that it has today: Encrypt writes no other. */
export const computedIdsOf = (key: TokenKey): string[] =>
  key.ids.filter(({ kind }) => kind !== 'assumed').map(({ id }) => id);

/** `allow_unsafe` takes the unsafe attributes out. */
function obstaclesOf(config: KeyConfig, token: TokenKey): readonly string[] {
  if (config.allowUnsafe) return token.problems;
  const unsafe = token.unsafe.map((why) => `${why}; make a new key and rotate to it, or set allow_unsafe: true`);
  return [...token.problems, ...unsafe];
}

/**
 * Throws KmsError 'key-unable' when the key must not be used.
 * @param scheme - of the ciphertext, or the data key in it: only scheme 3 uses the second key.
 */
export function refuseObstacles({ config, token, obstacles }: ListedKey, scheme: number): void {
  const ofMac = scheme === 3 && !config.allowUnsafe ? token.macUnsafe : [];
  const reasons = [...obstacles, ...ofMac];
  if (reasons.length > 0) {
    throw new KmsError('key-unable', `key "${config.label}" must not be used: ${reasons.join('; ')}`);
  }
}

/** The key that encrypts and the id that it writes. */
export interface SealingChoice {
  readonly key: ListedKey;
  readonly keyId: string;
}

/** What this host remembers of a label, and what else is known where no key is found. */
export interface Background {
  /** The id that was written before under this label: a change of profile must not change it. */
  readonly written: string | undefined;
  /** Every id that keys under the label had. */
  readonly ids: readonly string[];
  /** What to say of a key that is not there. */
  readonly whyMissing: string;
}

/**
 * Chooses the key that encrypts. Of two under one label `key_id` chooses; without it Encrypt is refused, since half of
 * the hosts would write under one and half under the other.
 *
 * Throws KmsError 'key-missing', 'key-ambiguous', 'key-unable', 'key-replaced'.
 */
export function chooseSealingKey(
  config: KeyConfig,
  found: readonly ListedKey[],
  background: Background,
): SealingChoice {
  const { label, keyId } = config;
  const candidates = found.filter((key) => key.config.label === label);
  const matching = keyId === undefined ? candidates : candidates.filter((key) => idsOf(key.token).includes(keyId));
  const [key] = matching;
  // One key may be there twice, restored beside itself: the same bytes, the same id. An equal CKA_ID proves no such thing.
  const [id] = key?.token.ids ?? [];
  const another = matching.find(
    (other) => other !== key && (id?.kind !== 'check-value' || other.token.ids[0]?.id !== id.id),
  );
  if (key === undefined) {
    throw new KmsError(
      'key-missing',
      keyId === undefined || candidates.length === 0
        ? background.whyMissing
        : `the token holds no key labelled "${label}" with key_id ${keyId}; restore it from the HSM's backup, or correct key_id`,
    );
  }
  if (another !== undefined) {
    const ids = matching.map((candidate) => candidate.token.ids[0]?.id ?? 'no id').join(', ');
    throw new KmsError(
      'key-ambiguous',
      `${matching.length} keys are labelled "${label}" (${ids}): set key_id of this key to the one that encrypts, on every host; all of them decrypt meanwhile`,
    );
  }
  refuseObstacles(key, key.token.scheme);
  if (key.token.sealProblems.length > 0) {
    throw new KmsError('key-unable', `key "${label}" cannot encrypt: ${key.token.sealProblems.join('; ')}`);
  }
  return { key, keyId: keyId === undefined ? idOfBefore(key, background) : firstGiven(key) };
}

/** The first id of `key_id` that the key has today. Throws KmsError 'key-unable'. */
function firstGiven({ config, token }: ListedKey): string {
  const ids = computedIdsOf(token);
  const written = givenIds(config).find((given) => ids.includes(given));
  if (written !== undefined) return written;
  const now = ids[0];
  throw new KmsError(
    'key-unable',
    `the token does not let key_id ${config.keyId ?? ''} of key "${config.label}" be computed any more, so that it decrypts and does not encrypt; ${
      now === undefined
        ? 'allow AES-ECB or AES-CBC for it again'
        : `allow AES-ECB or AES-CBC for it again, or have it written under the id that it has now: key_id: [${[...givenIds(config), now].join(', ')}], on every host`
    }`,
  );
}

/** The id that was written before, or the first. Throws KmsError 'key-replaced' for a key that was not seen before. */
function idOfBefore({ config: { label }, token }: ListedKey, { written, ids: before }: Background): string {
  const ids = computedIdsOf(token);
  const isKnown = token.ids.some(({ id, kind }) => kind === 'assumed' || before.includes(id));
  if (before.length > 0 && !isKnown) {
    throw new KmsError(
      'key-replaced',
      `the key labelled "${label}" (${ids.join(', ') || 'no id'}) is another one than this host knows under that label (${before.join(', ')}): restore that one from the HSM's backup. Only if this one is meant to encrypt from now on, set key_id of it to ${ids[0] ?? 'its id'}, on every host; what the other one encrypted stays unreadable until it is back`,
    );
  }
  const id = written !== undefined && ids.includes(written) ? written : ids[0];
  if (id === undefined) throw new KmsError('key-unable', `no key id can be computed for key "${label}"`);
  return id;
}
