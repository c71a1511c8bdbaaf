import { CkrError } from '../pkcs11/module.ts';
import { classifyCkr } from '../pkcs11/ckr.ts';
import type { SessionPool } from '../pkcs11/session-pool.ts';
import { IvError, type KeyHandles, type Profile } from '../profiles/index.ts';
import { checkValueId } from './key-id.ts';
import { checkKnownAnswer, makeKnownAnswer } from './known-answer.ts';

/** How often a token must refuse a check value between known answers that open before it counts as refused. */
const ROUNDS = 8;
const VALUE_BYTES = 32;

/** What a token makes of a key's check value. */
export type CheckValue =
  | { readonly kind: 'id'; readonly id: string }
  /** It refuses the mechanisms for this key, while it works with it otherwise. */
  | { readonly kind: 'refused' }
  /** It does nothing at all with this key. */
  | { readonly kind: 'useless'; readonly why: string };

export interface CheckContext {
  readonly pool: SessionPool;
  readonly mechanisms: ReadonlySet<number>;
  /** Those that may fit the token, best first. */
  readonly profiles: readonly Profile[];
  /** Told of every IV of ours that known answers take. */
  readonly countIv: () => void;
}

/**
 * Computes a key's id, twice: a device that answers wrong bytes must not name a key. That it cannot be computed is
 * believed only where known answers under the key open before, between and after the refusals: a device in trouble must
 * not turn a key into the one that its CKA_ID names. Throws CkrError when the token may be in trouble.
 */
export async function checkKey(context: CheckContext, key: KeyHandles): Promise<CheckValue> {
  const id = await computeTwice(context, key);
  if (id !== undefined) return { kind: 'id', id };
  const works = await firstThatOpens(context, key);
  if (typeof works === 'string') return { kind: 'useless', why: works };
  for (let round = 0; round < ROUNDS; round++) {
    const again = await computeTwice(context, key);
    if (again !== undefined) return { kind: 'id', id: again };
    await opens(context, works, key);
  }
  return { kind: 'refused' };
}

/** @returns undefined where the token refuses. Throws CkrError. */
export async function computeTwice(
  { pool, mechanisms }: Pick<CheckContext, 'pool' | 'mechanisms'>,
  key: KeyHandles,
): Promise<string | undefined> {
  const compute = (): Promise<string | undefined> => pool.use((session) => checkValueId(session, key, mechanisms));
  const first = await compute();
  if (first === undefined) return undefined;
  if ((await compute()) !== first) throw new CkrError('key id check', 'CKR_DEVICE_ERROR');
  return first;
}

/** @returns the profile by which the key works, or why it works by none. Throws CkrError when the token may be in trouble. */
async function firstThatOpens(context: CheckContext, key: KeyHandles): Promise<Profile | string> {
  const whys: string[] = [];
  let uncertain: CkrError | undefined;
  for (const profile of context.profiles) {
    if (profile.scheme === 3 && key.mac === undefined) continue;
    try {
      await opens(context, profile, key);
      return profile;
    } catch (error) {
      if (!(error instanceof CkrError) && !(error instanceof IvError)) throw error;
      whys.push(error.message);
      if (error instanceof CkrError && classifyCkr(error.ckr) !== 'unable') uncertain ??= error;
    }
  }
  if (uncertain !== undefined) throw uncertain;
  return whys.join('; ') || 'the token offers no mechanism for it';
}

/** Throws CkrError, IvError. */
function opens({ pool, countIv }: CheckContext, profile: Profile, key: KeyHandles): Promise<void> {
  return pool.use(async (session) => {
    const known = await makeKnownAnswer(session, { profile, key, countIv }, VALUE_BYTES);
    await checkKnownAnswer(session, key, known);
  });
}
