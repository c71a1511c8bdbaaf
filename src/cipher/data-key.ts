import { createCipheriv, createDecipheriv, hash } from 'node:crypto';
import { KmsError } from '../errors/index.ts';
import { freshRandom, randomInto } from '../random/index.ts';
import type { TokenScheme } from '../token/index.ts';
import { HEADER_BYTES, makeHeader, malformed, sealedBytes } from './header.ts';

/**
 * Scheme 4's body: the value under a data key in this process, the data key under the HSM's key (docs/ciphertext.md).
 *
 *     inner scheme (1) | length of sealed (2) | sealed | IV (12) | ciphertext | tag (16)
 */
export const DATA_KEY_BYTES = 32;
const SEALED_AT = HEADER_BYTES + 3;
const ALGORITHM = 'aes-256-gcm';
const IV_BYTES = 12;
const TAG = { authTagLength: 16 };

export interface SealedDataKey {
  /** 32 hex digits of the key that sealed it. */
  readonly keyId: string;
  readonly innerScheme: TokenScheme;
  /** Everything before the outer IV, the sealed data key at its end: the outer associated data. */
  readonly prefix: Buffer;
}

export interface EnvelopeBody {
  readonly dataKey: SealedDataKey;
  readonly iv: Buffer;
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
}

/** From the kernel; the caller zeroes it. */
export const newDataKey = (): Buffer => freshRandom(DATA_KEY_BYTES);

/**
 * Associated data of a sealed data key: the header with scheme 4, and the inner scheme. It differs from scheme 1's, so a
 * data key cut out of a database row does not open as a value.
 */
export const dataKeyAssociatedData = (keyId: string, innerScheme: TokenScheme): Buffer =>
  Buffer.concat([makeHeader(4, keyId), Buffer.of(innerScheme)]);

/** The sealed data key alone: the body that the token made of it. */
export const sealedPart = ({ prefix }: SealedDataKey): Buffer => prefix.subarray(SEALED_AT);

/** @param sealed - what the token made of a data key, with `dataKeyAssociatedData`. */
export function sealedDataKey(keyId: string, innerScheme: TokenScheme, sealed: Buffer): SealedDataKey {
  const lengths = Buffer.alloc(2);
  lengths.writeUInt16BE(sealed.length);
  return { keyId, innerScheme, prefix: Buffer.concat([dataKeyAssociatedData(keyId, innerScheme), lengths, sealed]) };
}

/** @returns a whole ciphertext of scheme 4, header included. */
export function sealValue(dataKey: Buffer, { prefix }: SealedDataKey, plaintext: Buffer): Buffer {
  const ciphertextAt = prefix.length + IV_BYTES;
  const out = Buffer.allocUnsafe(ciphertextAt + plaintext.length + TAG.authTagLength);
  prefix.copy(out);
  randomInto(out, prefix.length, IV_BYTES);
  const iv = out.subarray(prefix.length, ciphertextAt);
  const cipher = withoutStackTraces(() => createCipheriv(ALGORITHM, dataKey, iv, TAG));
  cipher.setAAD(prefix);
  cipher.update(plaintext).copy(out, ciphertextAt);
  cipher.final();
  cipher.getAuthTag().copy(out, ciphertextAt + plaintext.length);
  return out;
}

/** Takes a body of scheme 4 apart. Throws KmsError 'malformed-ciphertext', 'unknown-format'. */
export function parseEnvelope(keyId: string, ciphertext: Buffer): EnvelopeBody {
  const innerScheme = ciphertext.readUInt8(HEADER_BYTES);
  if (innerScheme !== 1 && innerScheme !== 2 && innerScheme !== 3) {
    throw new KmsError('unknown-format', `this release does not know inner scheme ${innerScheme}; upgrade the plugin`);
  }
  if (ciphertext.length < SEALED_AT) throw malformed('it is too short');
  const length = ciphertext.readUInt16BE(HEADER_BYTES + 1);
  if (length !== sealedBytes(innerScheme, DATA_KEY_BYTES)) throw malformed('its data key has the wrong length');
  const ivAt = SEALED_AT + length;
  const tagAt = ciphertext.length - TAG.authTagLength;
  if (tagAt < ivAt + IV_BYTES) throw malformed('it is too short');
  return {
    dataKey: { keyId, innerScheme, prefix: ciphertext.subarray(0, ivAt) },
    iv: ciphertext.subarray(ivAt, ivAt + IV_BYTES),
    ciphertext: ciphertext.subarray(ivAt + IV_BYTES, tagAt),
    tag: ciphertext.subarray(tagAt),
  };
}

/** @returns the plaintext, which the caller zeroes; undefined when the value's tag is wrong under this data key. */
export function openValue(
  dataKey: Buffer,
  { dataKey: { prefix }, iv, ciphertext, tag }: EnvelopeBody,
): Buffer | undefined {
  const decipher = withoutStackTraces(() => createDecipheriv(ALGORITHM, dataKey, iv, TAG));
  decipher.setAAD(prefix);
  decipher.setAuthTag(tag);
  const plaintext = decipher.update(ciphertext);
  try {
    decipher.final();
    return plaintext;
  } catch {
    plaintext.fill(0);
    return undefined;
  }
}

/** The value's tag is wrong, and its data key is the one that the HSM was given. */
export const changedValue = (): KmsError =>
  new KmsError('not-authentic', 'the ciphertext or its header was changed: its tag is wrong under its own data key');

/** Tells data keys apart without keeping them. */
export const fingerprint = (dataKey: Buffer): string => hash('sha256', dataKey, 'hex');

/**
 * Node 24 finds out that a Buffer is no KeyObject by exceptions that it throws and catches: their stack traces cost more
 * than the encryption. A KeyObject would be quicker still, but its memory cannot be zeroed.
 */
function withoutStackTraces<T>(make: () => T): T {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return make();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}
