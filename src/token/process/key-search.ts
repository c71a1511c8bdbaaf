import type { KeyHandles, Profile } from '../profiles/index.ts';
import type { KeyIdKind, KeyQuery, TokenKey } from '../types.ts';
import {
  CkrError,
  constants,
  handleToNumber,
  type Handle,
  type Pkcs11Module,
  type Template,
  type TokenFacts,
} from '../pkcs11/module.ts';
import type { SessionPool } from '../pkcs11/session-pool.ts';
import { Attributes, doubtfulFlags, unsafeFlags } from './key-attributes.ts';
import { checkKey, computeTwice } from './key-check.ts';
import type { IvTally } from './iv-tally.ts';
import { ckaIdId, isPassing } from './key-id.ts';

/** A key on the token with the handles that each of its ids stands for. */
export interface FoundKey {
  readonly key: TokenKey;
  readonly handles: ReadonlyMap<string, KeyHandles>;
  /** Ids made from key bytes: only under these is a wrong tag ever proven. */
  readonly provable: ReadonlySet<string>;
  /** Where its check value cannot be computed: what ids of before stand for. */
  readonly single?: KeyHandles;
  /** The token refused its check value; what it is called then, from one login to the next. */
  readonly refused?: string;
}

const NO_ID =
  'no key id can be computed: the token allows neither AES-ECB nor AES-CBC with it, and its CKA_ID has fewer than 16 bytes; set a random CKA_ID of 16 bytes or more';

const MAC_KEY_TYPES: ReadonlySet<number> = new Set([constants.CKK_GENERIC_SECRET, constants.CKK_SHA256_HMAC]);
const TYPE_NAMES: Readonly<Record<number, string>> = {
  [constants.CKK_GENERIC_SECRET]: 'GENERIC_SECRET',
  [constants.CKK_SHA256_HMAC]: 'SHA256_HMAC',
};

export interface SearchContext {
  readonly module: Pkcs11Module;
  readonly token: TokenFacts;
  readonly anchor: Handle;
  readonly pool: SessionPool;
  /** The profile that the token's keys encrypt with; undefined while none has been tried yet. */
  readonly profile: Profile;
  /** Those that may fit the token, best first. */
  readonly profiles: readonly Profile[];
  readonly ivs: IvTally;
}

/**
 * Every key under a listed label, with the ids it answers to. Throws CkrError when the token fails; a key that is only
 * unfit is returned with its problems, and an object beside it that is unfit is named with it.
 */
export async function searchKeys(context: SearchContext, query: KeyQuery): Promise<FoundKey[]> {
  const { aes, other } = objectsOf(context, query);
  const macs: MacKey[] = [];
  const notes = other.filter((object) => !MAC_KEY_TYPES.has(object.keyType)).map((object) => stranger(query, object));
  for (const object of secondKeys(context, query, other)) {
    const mac = await describeMac(context, object, aes[0]);
    if (typeof mac === 'string') notes.push(`${shown(object)} beside it is left out: ${mac}`);
    else macs.push(mac);
  }
  const found: FoundKey[] = [];
  for (const handle of aes) found.push(await describeKey(context, query, handle, macs, notes));
  if (found.length === 0 && other.length > 0) found.push(noKey(context, query, other));
  return assume(found, query);
}

/**
 * Ids of before for keys whose check value the token refuses now: those remembered for this CKA_ID, and those that the
 * configuration gives, for the one key that can be meant. They serve Decrypt, and prove nothing.
 */
function assume(found: readonly FoundKey[], { remembered, given }: KeyQuery): FoundKey[] {
  const computed = new Set(found.flatMap(({ handles }) => [...handles.keys()]));
  const dumb = found.filter((each) => each.single !== undefined);
  const meant =
    dumb.find(({ handles }) => given.some((id) => handles.has(id))) ?? (dumb.length === 1 ? dumb[0] : undefined);
  return found.map((each) => {
    const { key, single } = each;
    if (single === undefined) return each;
    const ckaId = key.ids.some(({ kind }) => kind === 'cka-id') ? key.attributes['cka_id'] : undefined;
    const ids = [
      ...remembered.filter((known) => known.ckaId === ckaId).map(({ id }) => id),
      ...(each === meant ? given : []),
    ].filter((id, index, all) => !computed.has(id) && all.indexOf(id) === index);
    if (ids.length === 0) return each;
    return {
      ...each,
      key: {
        ...key,
        ids: [...key.ids, ...ids.map((id) => ({ id, kind: 'assumed' as const }))],
        problems: key.problems.filter((problem) => problem !== NO_ID),
      },
      handles: new Map([...each.handles, ...ids.map((id) => [id, single] as const)]),
    };
  });
}

/** The AES keys and second keys under a label, whatever they can do. Throws CkrError. */
export function keysUnder(
  context: Pick<SearchContext, 'module' | 'anchor'>,
  query: KeyQuery,
): { readonly aes: number; readonly macs: number } {
  const { aes, other } = objectsOf(context, query);
  return { aes: aes.length, macs: secondKeys(context, query, other).length };
}

function secondKeys(
  context: Pick<SearchContext, 'module' | 'anchor'>,
  { label, macLabel }: KeyQuery,
  beside: readonly SecretObject[],
): SecretObject[] {
  const objects =
    macLabel === undefined || macLabel === label ? beside : objectsWith(context, [labelled(macLabel)]).other;
  return objects.filter((object) => MAC_KEY_TYPES.has(object.keyType));
}

interface SecretObject {
  readonly handle: Handle;
  readonly keyType: number;
}

const labelled = (label: string): Template[number] => ({
  type: constants.CKA_LABEL,
  value: Buffer.from(label, 'utf8'),
});

/**
 * The objects that a query names. Beside a label, CKA_ID chooses among the AES keys only: a second key may have another.
 * Throws CkrError.
 */
function objectsOf(
  context: Pick<SearchContext, 'module' | 'anchor'>,
  { label, ckaId, anyLabel }: KeyQuery,
): { aes: Handle[]; other: SecretObject[] } {
  if (ckaId === undefined) return objectsWith(context, [labelled(label)]);
  const identified = { type: constants.CKA_ID, value: Buffer.from(ckaId, 'hex') };
  if (anyLabel === true) return objectsWith(context, [identified]);
  const { other } = objectsWith(context, [labelled(label)]);
  return { aes: objectsWith(context, [labelled(label), identified]).aes, other };
}

function objectsWith(
  context: Pick<SearchContext, 'module' | 'anchor'>,
  template: Template,
): { aes: Handle[]; other: SecretObject[] } {
  const { module, anchor } = context;
  const handles = module.findObjects(anchor, [
    { type: constants.CKA_CLASS, value: constants.CKO_SECRET_KEY },
    ...template,
  ]);
  const attributes = new Attributes(module, anchor);
  const aes: Handle[] = [];
  const other: SecretObject[] = [];
  for (const handle of handles) {
    const keyType = attributes.number(handle, constants.CKA_KEY_TYPE, { needed: true }) ?? -1;
    if (keyType === constants.CKK_AES) aes.push(handle);
    else other.push({ handle, keyType });
  }
  // The order of a search is the token's whim; ids must not depend on it.
  aes.sort((a, b) => handleToNumber(a) - handleToNumber(b));
  return { aes, other };
}

/** A second key for scheme 3 that makes HMACs. */
interface MacKey {
  readonly handle: Handle;
  readonly unsafe: readonly string[];
}

/**
 * @param beside - an AES key to have a pair's id computed with.
 * @returns the key, or why it is none: what an object cannot do concerns that object alone. Throws CkrError.
 */
async function describeMac(
  { module, anchor, pool, token }: SearchContext,
  { handle }: SecretObject,
  beside: Handle | undefined,
): Promise<MacKey | string> {
  const attributes = new Attributes(module, anchor);
  const flags = attributes.flags(handle);
  const bytes = attributes.number(handle, constants.CKA_VALUE_LEN);
  if (token.mechanisms.has(constants.CKM_SHA256_HMAC) && beside !== undefined) {
    const sign = (): Promise<Buffer> =>
      pool.use((session) =>
        session.sign({ mechanism: constants.CKM_SHA256_HMAC }, handle, Buffer.from('hsm-kms-plugin'), 32),
      );
    try {
      // A moment's trouble must not put a second key out of sight.
      await sign().catch(sign);
    } catch (error) {
      if (!(error instanceof CkrError) || isPassing(error.ckr)) throw error;
      return `${bytes === undefined ? '' : `it has ${bytes} bytes, and `}${error.message}`;
    }
  }
  return { handle, unsafe: unsafeFlags(flags) };
}

/** What is gathered of one key's ids. */
class Ids {
  readonly handles = new Map<string, KeyHandles>();
  readonly list: { id: string; kind: KeyIdKind }[] = [];
  readonly provable = new Set<string>();

  add(id: string | undefined, kind: KeyIdKind, key: KeyHandles): void {
    if (id === undefined || this.handles.has(id)) return;
    this.handles.set(id, key);
    this.list.push({ id, kind });
    if (kind === 'check-value') this.provable.add(id);
  }
}

async function describeKey(
  context: SearchContext,
  query: KeyQuery,
  aes: Handle,
  macs: readonly MacKey[],
  notes: readonly string[],
): Promise<FoundKey> {
  const { module, anchor, token, pool, profile, profiles } = context;
  const attributes = new Attributes(module, anchor);
  const flags = attributes.flags(aes);
  const valueBytes = attributes.number(aes, constants.CKA_VALUE_LEN);
  const ckaId = attributes.bytes(aes, constants.CKA_ID);
  const single: KeyHandles = { aes, mac: macs[0]?.handle };
  const canEncrypt = flags.encrypt !== false;
  const problems: string[] = [];

  const ids = new Ids();
  let allIdsKnown = false;
  let refused = false;
  if (canEncrypt) {
    // Known answers are needed only where no check value names the key: they count for what its CKA_ID names.
    const named = ckaIdId(ckaId);
    const countIv = (): void => {
      if (named !== undefined) context.ivs.add(named);
    };
    const checks = { pool, mechanisms: token.mechanisms, profiles, countIv };
    const checked = await checkKey(checks, { aes, mac: undefined });
    if (checked.kind === 'id') {
      const pairs: { mac: Handle; id: string | undefined }[] = [];
      const hasHmac = token.mechanisms.has(constants.CKM_SHA256_HMAC);
      for (const { handle: mac } of hasHmac ? macs : [])
        pairs.push({ mac, id: await computeTwice(checks, { aes, mac }) });
      const macKnown = macs.length > 0 || (query.macLabel === undefined && profile.scheme !== 3);
      allIdsKnown = macKnown && pairs.length === macs.length && pairs.every(({ id }) => id !== undefined);
      // The scheme's own id first: that is the one it writes.
      if (profile.scheme !== 3) ids.add(checked.id, 'check-value', single);
      for (const pair of pairs) ids.add(pair.id, 'check-value', { aes, mac: pair.mac });
      ids.add(checked.id, 'check-value', single);
    }
    refused = checked.kind === 'refused';
    if (checked.kind === 'useless') problems.push(`the token does nothing with it: ${checked.why}`);
  }
  ids.add(ckaIdId(ckaId), 'cka-id', single);

  if (ids.list.length === 0 && problems.length === 0) {
    problems.push(NO_ID);
  }
  if (flags.decrypt === false) problems.push('CKA_DECRYPT is false');
  const unsafe = unsafeFlags(flags);
  if (valueBytes !== undefined && valueBytes * 8 !== query.sizeBits) {
    unsafe.push(`it has ${valueBytes * 8} bits where \`size\` says ${query.sizeBits}`);
  }
  const fingerprint = `${query.label} ${ckaId?.toString('hex') ?? ''}`;
  return {
    key: {
      label: query.label,
      isKey: true,
      ids: ids.list,
      allIdsKnown,
      scheme: profile.scheme,
      ivBy: profile.ivBy,
      maxValueBytes: profile.maxValueBytes,
      sizeBits: valueBytes === undefined ? undefined : valueBytes * 8,
      attributes: { ...flags, cka_id: ckaId?.toString('hex') },
      problems,
      sealProblems: sealProblems(query, profile, macs, canEncrypt, notes),
      unsafe,
      macUnsafe: macs.flatMap((mac) => mac.unsafe.map((why) => `its second key is unsafe: ${why}`)),
      notes: [...doubtfulFlags(flags), ...notes],
    },
    handles: ids.handles,
    provable: ids.provable,
    ...(refused || !canEncrypt ? { single } : {}),
    ...(refused ? { refused: fingerprint } : {}),
  };
}

function sealProblems(
  query: KeyQuery,
  profile: Profile,
  macs: readonly MacKey[],
  canEncrypt: boolean,
  notes: readonly string[],
): string[] {
  const problems: string[] = [];
  if (!canEncrypt) problems.push('CKA_ENCRYPT is false');
  if (profile.scheme !== 3) return problems;
  const label = query.macLabel ?? query.label;
  if (macs.length === 0) {
    problems.push(
      `scheme 3 needs a second key (GENERIC_SECRET or SHA256_HMAC) labelled "${label}"; if this key never encrypted under scheme 3, make one beside it with the HSM's own tool, else restore it from the HSM's backup`,
      ...notes,
    );
  }
  if (macs.length > 1) {
    problems.push(
      `${macs.length} second keys (GENERIC_SECRET or SHA256_HMAC) are labelled "${label}"; name one with mac_label`,
    );
  }
  return problems;
}

const shown = ({ keyType }: SecretObject): string =>
  TYPE_NAMES[keyType] ??
  (keyType < 0 ? 'an object of unknown type' : `an object of CKA_KEY_TYPE 0x${keyType.toString(16)}`);

const stranger = ({ label }: KeyQuery, object: SecretObject): string =>
  `${shown(object)} has the label "${label}", too: give it another one`;

/** Objects under the label, and no AES key among them. */
function noKey({ profile }: SearchContext, { label }: KeyQuery, other: readonly SecretObject[]): FoundKey {
  const { scheme, ivBy, maxValueBytes } = profile;
  const what = other.map(shown).join(', ');
  return {
    key: {
      label,
      isKey: false,
      ids: [],
      allIdsKnown: false,
      scheme,
      ivBy,
      maxValueBytes,
      sizeBits: undefined,
      attributes: { only_second_keys: other.every(({ keyType }) => MAC_KEY_TYPES.has(keyType)) },
      problems: [`no AES key has this label, but ${what}`],
      sealProblems: [],
      unsafe: [],
      macUnsafe: [],
      notes: [],
    },
    handles: new Map(),
    provable: new Set(),
  };
}
