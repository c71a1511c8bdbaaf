import { timingSafeEqual } from 'node:crypto';
import { CBC_IV_BYTES, cbcDecrypt, MAC_BYTES } from '../profiles/cbc-mechanism.ts';
import { gcm } from '../profiles/gcm-mechanism.ts';
import type { KeyHandles } from '../profiles/index.ts';
import type { TokenScheme } from '../types.ts';
import { CkrError, constants } from '../pkcs11/module.ts';
import type { Session } from '../pkcs11/session.ts';

const GCM_IV_BYTES = { 1: 12, 2: 16 } as const;

/**
 * Opens a body by its scheme, whatever profile made it.
 *
 * @returns the plaintext; the caller zeroes it. Throws CkrError; a wrong MAC is CKR_SIGNATURE_INVALID, found before
 * anything is decrypted.
 */
export async function openBody(
  session: Session,
  scheme: TokenScheme,
  key: KeyHandles,
  associatedData: Buffer,
  body: Buffer,
): Promise<Buffer> {
  if (scheme === 3) return openCbcHmac(session, key, associatedData, body);
  const ivBytes = GCM_IV_BYTES[scheme];
  return session.decrypt(gcm(body.subarray(0, ivBytes), associatedData), key.aes, body.subarray(ivBytes));
}

async function openCbcHmac(session: Session, key: KeyHandles, associatedData: Buffer, body: Buffer): Promise<Buffer> {
  if (key.mac === undefined) throw new CkrError('C_SignInit', 'CKR_KEY_FUNCTION_NOT_PERMITTED');
  const macAt = body.length - MAC_BYTES;
  const authenticated = Buffer.concat([associatedData, body.subarray(0, macAt)]);
  const expected = await session.sign({ mechanism: constants.CKM_SHA256_HMAC }, key.mac, authenticated, MAC_BYTES);
  if (expected.length !== MAC_BYTES || !timingSafeEqual(expected, body.subarray(macAt))) {
    throw new CkrError('HMAC', 'CKR_SIGNATURE_INVALID');
  }
  const iv = body.subarray(0, CBC_IV_BYTES);
  const plaintext = await cbcDecrypt(session, key, iv, body.subarray(CBC_IV_BYTES, macAt));
  if (plaintext === undefined) throw new CkrError('padding', 'CKR_FUNCTION_FAILED');
  return plaintext;
}
