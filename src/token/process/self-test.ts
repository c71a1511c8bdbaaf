import { classifyCkr } from '../pkcs11/ckr.ts';
import { CkrError } from '../pkcs11/module.ts';
import type { SessionPool } from '../pkcs11/session-pool.ts';
import { IvError } from '../profiles/index.ts';
import { checkKnownAnswer, makeKnownAnswer, type Sealing } from './known-answer.ts';

const IV_BYTES = { 1: 12, 2: 16, 3: 16 } as const;
const VALUE_BYTES = 32;
/**
 * How often a known answer must fail with a wrong tag before the profile is to blame and no moment's trouble: a token that
 * fails every second time by chance is misjudged once in 65,000.
 */
const WRONG_TAGS = 16;

export type SelfTestResult =
  { readonly fits: true } | { readonly fits: false; readonly why: string; readonly certain: boolean };

const misfit = (why: string): SelfTestResult => ({ fits: false, why, certain: true });

/**
 * Whether a profile really works with this token: the same value sealed twice gives IVs that are not zero and differ, and
 * both open. A profile that is wrong for a token can look right and still encrypt everything under one IV.
 *
 * @returns `certain: false` when the token may only have been in trouble.
 */
export async function selfTest(pool: SessionPool, sealing: Sealing): Promise<SelfTestResult> {
  try {
    const first = await ivOfOne(pool, sealing);
    const second = await ivOfOne(pool, sealing);
    if ([first, second].some((iv) => iv.every((byte) => byte === 0)))
      return misfit('the IV of its ciphertexts is zero');
    if (first.equals(second)) return misfit('it used the same IV twice');
    return { fits: true };
  } catch (error) {
    if (error instanceof IvError) return misfit(error.message);
    if (!(error instanceof CkrError)) throw error;
    const kind = classifyCkr(error.ckr);
    const certain = kind === 'tag' ? await failsAlways(pool, sealing) : kind !== 'lost' && kind !== 'ambiguous';
    return { fits: false, why: error.message, certain };
  }
}

async function failsAlways(pool: SessionPool, sealing: Sealing): Promise<boolean> {
  for (let round = 0; round < WRONG_TAGS; round++) {
    try {
      await ivOfOne(pool, sealing);
      return false;
    } catch (error) {
      if (!(error instanceof CkrError)) throw error;
      if (classifyCkr(error.ckr) !== 'tag') return false;
    }
  }
  return true;
}

function ivOfOne(pool: SessionPool, sealing: Sealing): Promise<Buffer> {
  return pool.use(async (session) => {
    const known = await makeKnownAnswer(session, sealing, VALUE_BYTES);
    await checkKnownAnswer(session, sealing.key, known);
    return known.body.subarray(0, IV_BYTES[sealing.profile.scheme]);
  });
}
