import type { KeyHandles, Profile } from '../profiles/index.ts';
import type { KeyIdKind, KeyQuery, TokenKey } from '../types.ts';
import { constants, handleToNumber, type Handle, type Pkcs11Module, type TokenFacts } from '../pkcs11/module.ts';
import type { SessionPool } from '../pkcs11/session-pool.ts';
import { checkValueId, ckaIdId } from './key-id.ts';

/** A key on the token with the handles that each of its ids stands for. */
export interface FoundKey {
  readonly key: TokenKey;
  readonly handles: ReadonlyMap<string, KeyHandles>;
  /** Ids made from key bytes: only under these is a wrong tag ever proven. */
  readonly provable: ReadonlySet<string>;
}

const SECRET_ATTRIBUTES = {
  sensitive: constants.CKA_SENSITIVE,
  extractable: constants.CKA_EXTRACTABLE,
  always_sensitive: constants.CKA_ALWAYS_SENSITIVE,
  never_extractable: constants.CKA_NEVER_EXTRACTABLE,
  encrypt: constants.CKA_ENCRYPT,
  decrypt: constants.CKA_DECRYPT,
  wrap: constants.CKA_WRAP,
  unwrap: constants.CKA_UNWRAP,
  derive: constants.CKA_DERIVE,
  local: constants.CKA_LOCAL,
  modifiable: constants.CKA_MODIFIABLE,
} as const;
type FlagName = keyof typeof SECRET_ATTRIBUTES;

const MAC_KEY_TYPES: ReadonlySet<number> = new Set([constants.CKK_GENERIC_SECRET, constants.CKK_SHA256_HMAC]);

export interface SearchContext {
  readonly module: Pkcs11Module;
  readonly token: TokenFacts;
  readonly anchor: Handle;
  readonly pool: SessionPool;
  /** The profile that the token's keys encrypt with; undefined while none has been tried yet. */
  readonly profile: Profile;
}

/**
 * Every key under a listed label, with the ids it answers to. Throws CkrError when the token fails; a key that is only
 * unfit is returned with its problems.
 */
export async function searchKeys(context: SearchContext, query: KeyQuery): Promise<FoundKey[]> {
  const { aes, other } = objectsUnder(context, query.label);
  const macs = secondKeys(context, query, other);
  const found: FoundKey[] = [];
  for (const handle of aes) found.push(await describeKey(context, query, handle, macs));
  const strangers = other.filter((object) => !MAC_KEY_TYPES.has(object.keyType));
  if (found.length === 0 && strangers.length > 0) found.push(wrongType(context, query, strangers[0]?.keyType ?? 0));
  return found;
}

/** The AES keys and second keys under a label, whatever they can do. Throws CkrError. */
export function keysUnder(
  context: Pick<SearchContext, 'module' | 'anchor'>,
  query: KeyQuery,
): { readonly aes: number; readonly macs: number } {
  const { aes, other } = objectsUnder(context, query.label);
  return { aes: aes.length, macs: secondKeys(context, query, other).length };
}

function secondKeys(
  context: Pick<SearchContext, 'module' | 'anchor'>,
  { label, macLabel }: KeyQuery,
  besides: readonly SecretObject[],
): Handle[] {
  const objects = macLabel === undefined || macLabel === label ? besides : objectsUnder(context, macLabel).other;
  return objects.filter((object) => MAC_KEY_TYPES.has(object.keyType)).map((object) => object.handle);
}

interface SecretObject {
  readonly handle: Handle;
  readonly keyType: number;
}

function objectsUnder(
  context: Pick<SearchContext, 'module' | 'anchor'>,
  label: string,
): { aes: Handle[]; other: SecretObject[] } {
  const { module, anchor } = context;
  const handles = module.findObjects(anchor, [
    { type: constants.CKA_CLASS, value: constants.CKO_SECRET_KEY },
    { type: constants.CKA_LABEL, value: Buffer.from(label, 'utf8') },
  ]);
  const aes: Handle[] = [];
  const other: SecretObject[] = [];
  for (const handle of handles) {
    const keyType = numberOf(module.attribute(anchor, handle, constants.CKA_KEY_TYPE)) ?? -1;
    if (keyType === constants.CKK_AES) aes.push(handle);
    else other.push({ handle, keyType });
  }
  // The order of a search is the token's whim; ids must not depend on it.
  aes.sort((a, b) => handleToNumber(a) - handleToNumber(b));
  return { aes, other };
}

async function describeKey(
  context: SearchContext,
  query: KeyQuery,
  aes: Handle,
  macs: readonly Handle[],
): Promise<FoundKey> {
  const { module, anchor, token, profile } = context;
  const flags = readFlags(module, anchor, aes);
  const valueBytes = numberOf(module.attribute(anchor, aes, constants.CKA_VALUE_LEN));
  const ckaId = module.attribute(anchor, aes, constants.CKA_ID);
  const single: KeyHandles = { aes, mac: macs[0] };

  const handles = new Map<string, KeyHandles>();
  const ids: { id: string; kind: KeyIdKind }[] = [];
  const provable = new Set<string>();
  const add = (id: string | undefined, kind: KeyIdKind, key: KeyHandles): void => {
    if (id === undefined || handles.has(id)) return;
    handles.set(id, key);
    ids.push({ id, kind });
    if (kind === 'check-value') provable.add(id);
  };
  const canEncrypt = flags.encrypt !== false;
  let allIdsKnown = false;
  if (canEncrypt) {
    const compute = (mac: Handle | undefined): Promise<string | undefined> =>
      context.pool.use((session) => checkValueId(session, { aes, mac }, token.mechanisms));
    const alone = await compute(undefined);
    const pairs: { mac: Handle; id: string | undefined }[] = [];
    if (alone !== undefined && token.mechanisms.has(constants.CKM_SHA256_HMAC)) {
      for (const mac of macs) pairs.push({ mac, id: await compute(mac) });
    }
    allIdsKnown = alone !== undefined && pairs.length === macs.length && pairs.every(({ id }) => id !== undefined);
    // The scheme's own id first: that is the one it writes.
    if (profile.scheme !== 3) add(alone, 'check-value', single);
    for (const pair of pairs) add(pair.id, 'check-value', { aes, mac: pair.mac });
    add(alone, 'check-value', single);
  }
  add(ckaIdId(ckaId), 'cka-id', single);

  const problems: string[] = [];
  if (ids.length === 0) {
    problems.push(
      'no key id can be computed: the token allows neither AES-ECB nor AES-CBC with it, and its CKA_ID has fewer than 16 bytes; set a random CKA_ID of 16 bytes or more',
    );
  }
  if (flags.decrypt === false) problems.push('CKA_DECRYPT is false');
  const sealProblems: string[] = [];
  if (!canEncrypt) sealProblems.push('CKA_ENCRYPT is false');
  if (profile.scheme === 3 && macs.length === 0) {
    sealProblems.push(
      `scheme 3 needs a second key (GENERIC_SECRET or SHA256_HMAC) labelled "${query.macLabel ?? query.label}"; if this key never encrypted under scheme 3, make one beside it with the HSM's own tool, else restore it from the HSM's backup`,
    );
  }
  if (profile.scheme === 3 && macs.length > 1) {
    sealProblems.push(
      `${macs.length} second keys (GENERIC_SECRET or SHA256_HMAC) are labelled "${query.macLabel ?? query.label}"; name one with mac_label`,
    );
  }
  return {
    key: {
      label: query.label,
      ids,
      allIdsKnown,
      scheme: profile.scheme,
      ivBy: profile.ivBy,
      maxValueBytes: profile.maxValueBytes,
      sizeBits: valueBytes === undefined ? undefined : valueBytes * 8,
      attributes: { ...flags, cka_id: ckaId?.toString('hex') },
      problems,
      sealProblems,
      unsafe: unsafeAttributes(flags, valueBytes, query),
    },
    handles,
    provable,
  };
}

function unsafeAttributes(
  flags: Record<FlagName, boolean | undefined>,
  valueBytes: number | undefined,
  query: KeyQuery,
): string[] {
  const unsafe: string[] = [];
  if (flags.sensitive === false) unsafe.push('CKA_SENSITIVE is false: its bytes can be read by whoever has the PIN');
  if (flags.extractable === true) unsafe.push('CKA_EXTRACTABLE is true: it can be taken out of the HSM');
  if (valueBytes !== undefined && valueBytes * 8 !== query.sizeBits) {
    unsafe.push(`it has ${valueBytes * 8} bits where \`size\` says ${query.sizeBits}`);
  }
  return unsafe;
}

function wrongType(context: SearchContext, query: KeyQuery, keyType: number): FoundKey {
  const { scheme, ivBy, maxValueBytes } = context.profile;
  const type = `0x${keyType.toString(16)}`;
  return {
    key: {
      label: query.label,
      ids: [],
      allIdsKnown: false,
      scheme,
      ivBy,
      maxValueBytes,
      sizeBits: undefined,
      attributes: { key_type: type },
      problems: [`the key under this label is no AES key (CKA_KEY_TYPE ${type})`],
      sealProblems: [],
      unsafe: [],
    },
    handles: new Map(),
    provable: new Set(),
  };
}

function readFlags(module: Pkcs11Module, session: Handle, key: Handle): Record<FlagName, boolean | undefined> {
  const read = (type: number): boolean | undefined => {
    const value = module.attribute(session, key, type);
    return value?.length === 1 ? value[0] !== 0 : undefined;
  };
  return Object.fromEntries(Object.entries(SECRET_ATTRIBUTES).map(([name, type]) => [name, read(type)])) as Record<
    FlagName,
    boolean | undefined
  >;
}

/** A CK_ULONG attribute as a number; little-endian like every platform that pkcs11js runs on here. */
function numberOf(value: Buffer | undefined): number | undefined {
  if (value === undefined) return undefined;
  if (value.length === 8) return Number(value.readBigUInt64LE(0));
  return value.length === 4 ? value.readUInt32LE(0) : undefined;
}
