import { classifyCkr } from '../pkcs11/ckr.ts';
import { CkrError } from '../pkcs11/module.ts';
import type { Session } from '../pkcs11/session.ts';
import type { KeyHandles, Profile } from '../profiles/index.ts';
import type { CryptoRequest } from '../wire/messages.ts';
import { checkKnownAnswer, makeKnownAnswer } from './known-answer.ts';
import { openBody } from './open-scheme.ts';
import { refuseExpired } from './operation-error.ts';

/** What a ciphertext that failed to open comes to. */
export type Verdict =
  /** It opens after all. */
  | { readonly kind: 'opens'; readonly plaintext: Buffer }
  /** It, or its header, was changed: proven. */
  | { readonly kind: 'forged' }
  /** The token is to blame, or may be. */
  | { readonly kind: 'token' };

const TOKEN: Verdict = { kind: 'token' };

/**
 * How often it must fail again, between known answers that open, whatever code the module has for it: a device in trouble
 * may give any, and must not condemn a good ciphertext even when every second call fails by chance. At 8 rounds that is once
 * in 130,000 (and a token seen in such trouble is not believed at all, see `operations.ts`).
 */
const ROUNDS = 8;

const TAG_BYTES = 16;
const GCM_IV_BYTES = { 1: 12, 2: 16 } as const;
const CBC_FIXED_BYTES = 48;

/** Length of a value whose ciphertext gives the token as many bytes to decrypt as this request's does. */
function valueBytes({ scheme, data }: CryptoRequest): number {
  if (scheme === 3) return data.length - CBC_FIXED_BYTES - 1;
  return data.length - GCM_IV_BYTES[scheme] - TAG_BYTES;
}

/**
 * A ciphertext failed: is it the ciphertext, or the token? The ciphertext only when it fails again and again on one
 * session on which the key's id came out right first, and between the failures known answers of the same length open.
 *
 * Throws OperationError 'deadline' as soon as nobody waits for the verdict: forged ciphertexts with short deadlines would
 * keep sessions from those who wait.
 *
 * @param checkId - computes the key's id on the session and says whether it is the header's.
 */
export async function judge(
  session: Session,
  request: CryptoRequest,
  key: KeyHandles,
  profile: Profile,
  checkId: (session: Session) => Promise<boolean>,
  first: CkrError,
): Promise<Verdict> {
  const { scheme, associatedData, data } = request;
  refuseExpired(request);
  try {
    if (!(await checkId(session))) return TOKEN;
    const known = await makeKnownAnswer(session, profile, key, valueBytes(request), associatedData.length);
    await checkKnownAnswer(session, key, known);
    for (let round = 0; round < ROUNDS; round++) {
      refuseExpired(request);
      try {
        return { kind: 'opens', plaintext: await openBody(session, scheme, key, associatedData, data) };
      } catch (thrown) {
        if (!(thrown instanceof CkrError)) throw thrown;
        if (classifyCkr(thrown.ckr) !== 'tag' && thrown.ckr !== first.ckr) return TOKEN;
      }
      await checkKnownAnswer(session, key, known);
    }
    return { kind: 'forged' };
  } catch (thrown) {
    if (thrown instanceof CkrError) return TOKEN;
    throw thrown;
  }
}
