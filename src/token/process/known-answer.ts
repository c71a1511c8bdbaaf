import { randomBytes, timingSafeEqual } from 'node:crypto';
import { CkrError } from '../pkcs11/module.ts';
import type { Session } from '../pkcs11/session.ts';
import type { KeyHandles, Profile } from '../profiles/index.ts';
import type { TokenScheme } from '../types.ts';
import { bodyBytes, openBody } from './open-scheme.ts';

const HEADER_BYTES = 26;
/** Associated data that no ciphertext of ours carries: it does not begin with the magic. */
const DATA_TEXT = 'hsm-kms-plugin known answer ';

/** A value of which both sides are known, sealed by the token: whether it opens says how the token is. */
export interface KnownAnswer {
  readonly scheme: TokenScheme;
  readonly associatedData: Buffer;
  readonly value: Buffer;
  readonly body: Buffer;
}

/** A key with the profile that seals under it, and who counts the IVs of ours that it takes. */
export interface Sealing {
  readonly profile: Profile;
  readonly key: KeyHandles;
  /** Told of every IV that this side chooses, before the token is given it. */
  readonly countIv: () => void;
}

/**
 * Has the token seal a random value of so many bytes.
 * @param dataBytes - length of its associated data, a header's by default.
 * Throws CkrError, IvError.
 */
export async function makeKnownAnswer(
  session: Session,
  { profile, key, countIv }: Sealing,
  bytes: number,
  dataBytes = HEADER_BYTES,
): Promise<KnownAnswer> {
  const value = randomBytes(bytes);
  const associatedData = Buffer.alloc(dataBytes, DATA_TEXT);
  if (profile.ivBy === 'caller') countIv();
  const { scheme } = profile;
  const body = await profile.seal(session, key, associatedData, value);
  if (body.length !== bodyBytes(scheme, bytes)) {
    throw new CkrError(
      'known answer',
      'CKR_FUNCTION_FAILED',
      'the token answered CKR_OK with a ciphertext of a wrong length',
    );
  }
  return { scheme, associatedData, value, body };
}

/** Throws CkrError; CKR_FUNCTION_FAILED, which counts as a token in trouble, when the answer is wrong. */
export async function checkKnownAnswer(session: Session, key: KeyHandles, known: KnownAnswer): Promise<void> {
  const opened = await openBody(session, known.scheme, key, known.associatedData, known.body);
  if (opened.length !== known.value.length || !timingSafeEqual(opened, known.value)) {
    throw new CkrError('known answer', 'CKR_FUNCTION_FAILED');
  }
}
