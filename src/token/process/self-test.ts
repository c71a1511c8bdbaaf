import { randomBytes, timingSafeEqual } from 'node:crypto';
import { classifyCkr } from '../pkcs11/ckr.ts';
import { CkrError } from '../pkcs11/module.ts';
import type { SessionPool } from '../pkcs11/session-pool.ts';
import type { KeyHandles, Profile } from '../profiles/index.ts';
import { openBody } from './open-scheme.ts';

const IV_BYTES = { 1: 12, 2: 16, 3: 16 } as const;
/** Known answers carry associated data that no ciphertext of ours can carry: it is shorter than a header. */
const KNOWN_ANSWER_DATA = Buffer.from('hsm-kms-plugin known ans.');

/**
 * Seals a known answer and opens it again on one session.
 * @param bytes its length; a wrong tag is proven only beside a known answer at least as long as the ciphertext.
 * @returns the IV that was used. Throws CkrError; CKR_FUNCTION_FAILED when the answer is wrong.
 */
export async function knownAnswer(
  pool: SessionPool,
  profile: Profile,
  key: KeyHandles,
  bytes: number,
): Promise<{ readonly iv: Buffer; readonly body: Buffer; readonly value: Buffer }> {
  return pool.use(async (session) => {
    const value = randomBytes(bytes);
    const body = await profile.seal(session, key, KNOWN_ANSWER_DATA, value);
    const opened = await openBody(session, profile.scheme, key, KNOWN_ANSWER_DATA, body);
    expectSame(opened, value);
    return { iv: Buffer.from(body.subarray(0, IV_BYTES[profile.scheme])), body, value };
  });
}

/** Throws CkrError CKR_FUNCTION_FAILED, which counts as a token in trouble, when a known answer comes back wrong. */
export function expectSame(answer: Buffer, known: Buffer): void {
  if (answer.length !== known.length || !timingSafeEqual(answer, known)) {
    throw new CkrError('known answer', 'CKR_FUNCTION_FAILED');
  }
}

export { KNOWN_ANSWER_DATA };

export type SelfTestResult =
  { readonly fits: true } | { readonly fits: false; readonly why: string; readonly certain: boolean };

/**
 * Whether a profile really works with this token: the same value sealed twice gives IVs that are not zero and differ, and
 * both open. A profile that is wrong for a token can look right and still encrypt everything under one IV.
 *
 * @returns `certain: false` when the token may only have been in trouble.
 */
export async function selfTest(pool: SessionPool, profile: Profile, key: KeyHandles): Promise<SelfTestResult> {
  try {
    const first = await knownAnswer(pool, profile, key, 32);
    const second = await knownAnswer(pool, profile, key, 32);
    for (const { iv } of [first, second]) {
      if (iv.length !== IV_BYTES[profile.scheme] || iv.every((byte) => byte === 0)) {
        return { fits: false, why: 'the IV of its ciphertexts is zero', certain: true };
      }
    }
    if (first.iv.equals(second.iv)) return { fits: false, why: 'it used the same IV twice', certain: true };
    return { fits: true };
  } catch (error) {
    if (!(error instanceof CkrError)) throw error;
    const kind = classifyCkr(error.ckr);
    return { fits: false, why: error.message, certain: kind !== 'lost' && kind !== 'ambiguous' };
  }
}
