import { constants } from '../pkcs11/module.ts';
import type { Session } from '../pkcs11/session.ts';
import type { KeyHandles } from './types.ts';

export const CBC_IV_BYTES = 16;
export const MAC_BYTES = 32;
const BLOCK_BYTES = 16;

/**
 * AES-CBC with PKCS#7 padding: the bytes of CKM_AES_CBC_PAD. The padding is done here, with CKM_AES_CBC, where the token
 * has that: tpm2-pkcs11 1.9 decrypts at most 31 bytes with CKM_AES_CBC_PAD, and openCryptoki 3.8 does not notice wrong
 * padding. Throws CkrError.
 */
export async function cbcEncrypt(session: Session, key: KeyHandles, iv: Buffer, plaintext: Buffer): Promise<Buffer> {
  const pad = BLOCK_BYTES - (plaintext.length % BLOCK_BYTES);
  const bytes = plaintext.length + pad;
  if (!padsHere(session)) {
    return session.encrypt({ mechanism: constants.CKM_AES_CBC_PAD, parameter: iv }, key.aes, plaintext, bytes);
  }
  const padded = Buffer.alloc(bytes, pad);
  plaintext.copy(padded);
  try {
    return await session.encrypt({ mechanism: constants.CKM_AES_CBC, parameter: iv }, key.aes, padded, bytes);
  } finally {
    padded.fill(0);
  }
}

/**
 * The reverse; only for bytes whose MAC is right.
 * @returns undefined when the padding is wrong, which then is the token's doing.
 */
export async function cbcDecrypt(
  session: Session,
  key: KeyHandles,
  iv: Buffer,
  ciphertext: Buffer,
): Promise<Buffer | undefined> {
  if (!padsHere(session)) {
    return session.decrypt({ mechanism: constants.CKM_AES_CBC_PAD, parameter: iv }, key.aes, ciphertext);
  }
  const padded = await session.decrypt({ mechanism: constants.CKM_AES_CBC, parameter: iv }, key.aes, ciphertext);
  const pad = padded.at(-1) ?? 0;
  const end = padded.length - pad;
  const right = padded.length === ciphertext.length && pad >= 1 && pad <= BLOCK_BYTES;
  if (right && padded.subarray(end).every((byte) => byte === pad)) return padded.subarray(0, end);
  padded.fill(0);
  return undefined;
}

const padsHere = (session: Session): boolean => session.mechanisms.has(constants.CKM_AES_CBC);
