import { timingSafeEqual } from 'node:crypto';
import { classifyCkr } from '../pkcs11/ckr.ts';
import { CkrError, constants } from '../pkcs11/module.ts';
import type { Session } from '../pkcs11/session.ts';
import { CBC_IV_BYTES, cbcDecrypt, MAC_BYTES } from '../profiles/cbc-mechanism.ts';
import { gcm, GCM_TAG_BYTES } from '../profiles/gcm-mechanism.ts';
import type { KeyHandles } from '../profiles/index.ts';
import type { TokenScheme } from '../types.ts';
import type { CryptoRequest } from '../wire/messages.ts';

const GCM_IV_BYTES = { 1: 12, 2: 16 } as const;
const CBC_BLOCK_BYTES = 16;
/** The operation that a wrong MAC is the answer of: it is found here. */
const MAC_CHECK = 'HMAC';

/** Length of a value whose ciphertext gives the token as many bytes to decrypt as this request's does. */
export function valueBytes({ scheme, data }: Pick<CryptoRequest, 'scheme' | 'data'>): number {
  if (scheme === 3) return data.length - CBC_IV_BYTES - MAC_BYTES - 1;
  return data.length - GCM_IV_BYTES[scheme] - GCM_TAG_BYTES;
}

/** Length of the body that a value of so many bytes has. */
export function bodyBytes(scheme: TokenScheme, bytes: number): number {
  if (scheme === 3) return CBC_IV_BYTES + bytes + CBC_BLOCK_BYTES - (bytes % CBC_BLOCK_BYTES) + MAC_BYTES;
  return GCM_IV_BYTES[scheme] + bytes + GCM_TAG_BYTES;
}

/**
 * Whether this failure may be a wrong tag or MAC: an answer of C_Decrypt itself, which alone has seen the tag, with a code
 * that modules have for it; under scheme 3 the comparison of the MACs, after which the ciphertext is known to be ours.
 */
export function isWrongTag(thrown: unknown, scheme: TokenScheme): thrown is CkrError {
  if (!(thrown instanceof CkrError)) return false;
  if (scheme === 3) return thrown.operation === MAC_CHECK;
  const kind = classifyCkr(thrown.ckr);
  return thrown.operation === 'C_Decrypt' && (kind === 'tag' || kind === 'ambiguous');
}

/**
 * Opens a body by its scheme, whatever profile made it.
 *
 * @returns the plaintext; the caller zeroes it. Throws CkrError; a wrong MAC is CKR_SIGNATURE_INVALID, found before
 * anything is decrypted, and CKR_OK with a plaintext of a wrong length is CKR_FUNCTION_FAILED.
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
  const plaintext = await session.decrypt(
    gcm(body.subarray(0, ivBytes), associatedData),
    key.aes,
    body.subarray(ivBytes),
  );
  const due = body.length - ivBytes - GCM_TAG_BYTES;
  if (plaintext.length !== due) throw wrongLength('C_Decrypt', plaintext, due);
  return plaintext;
}

async function openCbcHmac(session: Session, key: KeyHandles, associatedData: Buffer, body: Buffer): Promise<Buffer> {
  if (key.mac === undefined) throw new CkrError('C_SignInit', 'CKR_KEY_FUNCTION_NOT_PERMITTED');
  const macAt = body.length - MAC_BYTES;
  const authenticated = Buffer.concat([associatedData, body.subarray(0, macAt)]);
  const expected = await session.sign({ mechanism: constants.CKM_SHA256_HMAC }, key.mac, authenticated, MAC_BYTES);
  if (expected.length !== MAC_BYTES) throw wrongLength('C_Sign', expected, MAC_BYTES);
  if (!timingSafeEqual(expected, body.subarray(macAt))) throw new CkrError(MAC_CHECK, 'CKR_SIGNATURE_INVALID');
  const iv = body.subarray(0, CBC_IV_BYTES);
  const plaintext = await cbcDecrypt(session, key, iv, body.subarray(CBC_IV_BYTES, macAt));
  if (plaintext === undefined) throw new CkrError('padding', 'CKR_FUNCTION_FAILED');
  const most = macAt - CBC_IV_BYTES - 1;
  if (plaintext.length > most || plaintext.length <= most - CBC_BLOCK_BYTES)
    throw wrongLength('C_Decrypt', plaintext, most);
  return plaintext;
}

function wrongLength(operation: string, answer: Buffer, due: number): CkrError {
  const bytes = answer.length;
  answer.fill(0);
  return new CkrError(
    operation,
    'CKR_FUNCTION_FAILED',
    `${operation} answered CKR_OK with ${bytes} bytes where ${due} are due`,
  );
}
