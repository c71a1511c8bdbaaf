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

export const queryFor = (config: KeyConfig): KeyQuery => ({
  label: config.label,
  macLabel: config.macLabel,
  sizeBits: config.size,
  active: config.state === 'active',
});

/** Pairs what the token shows with what the configuration lists. */
export function listedKeys(configs: readonly KeyConfig[], tokenKeys: readonly TokenKey[]): ListedKey[] {
  return configs.flatMap((config) =>
    tokenKeys.filter((token) => token.label === config.label).map((token) => listedKey(config, token)),
  );
}

/** The key that answers to an id; of several the one listed first. */
export function byId(keys: readonly ListedKey[]): ReadonlyMap<string, ListedKey> {
  return new Map(keys.toReversed().flatMap((key) => idsOf(key.token).map((id) => [id, key])));
}

export const idsOf = (key: TokenKey): string[] => key.ids.map(({ id }) => id);

/** `allow_unsafe` takes the unsafe attributes out. */
function obstaclesOf(config: KeyConfig, token: TokenKey): readonly string[] {
  if (config.allowUnsafe) return token.problems;
  const unsafe = token.unsafe.map((why) => `${why}; make a new key and rotate to it, or set allow_unsafe: true`);
  return [...token.problems, ...unsafe];
}

/** Throws KmsError 'key-unable' when the key must not be used. */
export function refuseObstacles(key: ListedKey): void {
  if (key.obstacles.length > 0) {
    throw new KmsError('key-unable', `key "${key.config.label}" must not be used: ${key.obstacles.join('; ')}`);
  }
}

/** The key that encrypts and the id that it writes. */
export interface SealingChoice {
  readonly key: ListedKey;
  readonly keyId: string;
}

/**
 * Chooses the key that encrypts. Of two under one label `key_id` chooses; without it Encrypt is refused, since half of
 * the hosts would write under one and half under the other.
 *
 * @param remembered - the id that was written before under this label: a change of profile must not change it.
 * Throws KmsError 'key-missing', 'key-ambiguous', 'key-unable'.
 */
export function chooseSealingKey(
  config: KeyConfig,
  found: readonly ListedKey[],
  remembered: string | undefined,
): SealingChoice {
  const { label, keyId } = config;
  const candidates = found.filter((key) => key.config.label === label);
  const matching = keyId === undefined ? candidates : candidates.filter((key) => idsOf(key.token).includes(keyId));
  const [key] = matching;
  // One key may be there twice, restored beside itself: the same bytes, the same id. An equal CKA_ID proves no such thing.
  const [id] = key?.token.ids ?? [];
  const another = matching.find(
    (other) => other !== key && (id?.kind === 'cka-id' || other.token.ids[0]?.id !== id?.id),
  );
  if (key === undefined) {
    throw new KmsError(
      'key-missing',
      keyId === undefined
        ? `the token holds no key labelled "${label}"; make it with \`kms-plugin keys create ${label}\`, or restore it from the HSM's backup`
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
  refuseObstacles(key);
  if (key.token.sealProblems.length > 0) {
    throw new KmsError('key-unable', `key "${label}" cannot encrypt: ${key.token.sealProblems.join('; ')}`);
  }
  const ids = idsOf(key.token);
  const written = keyId ?? (remembered !== undefined && ids.includes(remembered) ? remembered : ids[0]);
  if (written === undefined) throw new KmsError('key-unable', `no key id can be computed for key "${label}"`);
  return { key, keyId: written };
}
