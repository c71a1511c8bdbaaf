import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { KmsError } from '../errors/index.ts';
import type { TokenScheme } from '../token/index.ts';
import { HEADER_BYTES, makeHeader, malformed } from './header.ts';

/**
 * Scheme 4's body: the value under a data key in this process, the data key under the HSM's key (docs/ciphertext.md).
 *
 *     inner scheme (1) | length of sealed (2) | sealed | IV (12) | ciphertext | tag (16)
 */
export const DATA_KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;

/** Length in bytes of a data key sealed by each inner scheme: IV, ciphertext, tag or MAC. */
const SEALED_BYTES: Readonly<Record<TokenScheme, number>> = {
  1: 12 + DATA_KEY_BYTES + 16,
  2: 16 + DATA_KEY_BYTES + 16,
  // PKCS#7 padding adds a whole block to 32 bytes.
  3: 16 + (DATA_KEY_BYTES + 16) + 32,
};

export interface SealedDataKey {
  /** 32 hex digits of the key that sealed it. */
  readonly keyId: string;
  readonly innerScheme: TokenScheme;
  readonly sealed: Buffer;
}

export interface EnvelopeBody {
  readonly dataKey: SealedDataKey;
  /** Everything before the outer IV: the outer associated data. */
  readonly prefix: Buffer;
  readonly iv: Buffer;
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
}

/** From the process's CSPRNG; the caller zeroes it. */
export const newDataKey = (): Buffer => randomBytes(DATA_KEY_BYTES);

/**
 * Associated data of a sealed data key: the header with scheme 4, and the inner scheme. It differs from scheme 1's, so a
 * data key cut out of a database row does not open as a value.
 */
export const dataKeyAssociatedData = (keyId: string, innerScheme: TokenScheme): Buffer =>
  Buffer.concat([makeHeader(4, keyId), Buffer.of(innerScheme)]);

/** @returns a whole ciphertext of scheme 4, header included. */
export function sealValue(dataKey: Buffer, sealedKey: SealedDataKey, plaintext: Buffer): Buffer {
  const { keyId, innerScheme, sealed } = sealedKey;
  const prefixBytes = HEADER_BYTES + 3 + sealed.length;
  const out = Buffer.allocUnsafe(prefixBytes + IV_BYTES + plaintext.length + TAG_BYTES);
  makeHeader(4, keyId).copy(out);
  out.writeUInt8(innerScheme, HEADER_BYTES);
  out.writeUInt16BE(sealed.length, HEADER_BYTES + 1);
  sealed.copy(out, HEADER_BYTES + 3);
  const iv = randomBytes(IV_BYTES);
  iv.copy(out, prefixBytes);
  const cipher = createCipheriv('aes-256-gcm', dataKey, iv, { authTagLength: TAG_BYTES });
  cipher.setAAD(out.subarray(0, prefixBytes));
  cipher.update(plaintext).copy(out, prefixBytes + IV_BYTES);
  cipher.final();
  cipher.getAuthTag().copy(out, out.length - TAG_BYTES);
  return out;
}

/** Takes a body of scheme 4 apart. Throws KmsError 'malformed-ciphertext', 'unknown-format'. */
export function parseEnvelope(keyId: string, ciphertext: Buffer): EnvelopeBody {
  const innerScheme = ciphertext.readUInt8(HEADER_BYTES);
  if (innerScheme !== 1 && innerScheme !== 2 && innerScheme !== 3) {
    throw new KmsError('unknown-format', `inner scheme ${innerScheme} is newer than this release; upgrade the plugin`);
  }
  if (ciphertext.length < HEADER_BYTES + 3) throw malformed('it is too short');
  const sealedBytes = ciphertext.readUInt16BE(HEADER_BYTES + 1);
  if (sealedBytes !== SEALED_BYTES[innerScheme]) throw malformed('its data key has the wrong length');
  const prefixBytes = HEADER_BYTES + 3 + sealedBytes;
  if (ciphertext.length < prefixBytes + IV_BYTES + TAG_BYTES) throw malformed('it is too short');
  return {
    dataKey: { keyId, innerScheme, sealed: ciphertext.subarray(HEADER_BYTES + 3, prefixBytes) },
    prefix: ciphertext.subarray(0, prefixBytes),
    iv: ciphertext.subarray(prefixBytes, prefixBytes + IV_BYTES),
    ciphertext: ciphertext.subarray(prefixBytes + IV_BYTES, ciphertext.length - TAG_BYTES),
    tag: ciphertext.subarray(ciphertext.length - TAG_BYTES),
  };
}

/** @returns the plaintext; the caller zeroes it. Throws KmsError 'not-authentic'. */
export function openValue(dataKey: Buffer, body: EnvelopeBody): Buffer {
  const decipher = createDecipheriv('aes-256-gcm', dataKey, body.iv, { authTagLength: TAG_BYTES });
  decipher.setAAD(body.prefix);
  decipher.setAuthTag(body.tag);
  const plaintext = decipher.update(body.ciphertext);
  try {
    decipher.final();
    return plaintext;
  } catch {
    plaintext.fill(0);
    throw new KmsError(
      'not-authentic',
      'the ciphertext or its header was changed: its tag is wrong under its own data key',
    );
  }
}
