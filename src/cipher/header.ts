import { KmsError } from '../errors/index.ts';
import type { TokenScheme } from '../token/index.ts';

/**
 * The header in front of every ciphertext, 26 bytes (docs/ciphertext.md):
 *
 *     magic 8b 48 53 4d 4b 4d 53 0a (8) | version 0x01 (1) | scheme (1) | key id (16)
 */
export const MAGIC = Buffer.from('8b48534d4b4d530a', 'hex');
export const FORMAT_VERSION = 1;
export const HEADER_BYTES = 26;

export type Scheme = TokenScheme | 4;

/** The header of a ciphertext, checked, and what follows it. */
export interface Header {
  readonly scheme: Scheme;
  /** 32 hex digits. */
  readonly keyId: string;
  /** The 26 bytes themselves: associated data of every scheme. */
  readonly header: Buffer;
  readonly body: Buffer;
}

/** Bytes of a token's IV and tag or MAC. */
const IV_AND_TAG_BYTES: Readonly<Record<TokenScheme, number>> = { 1: 12 + 16, 2: 16 + 16, 3: 16 + 32 };
const BLOCK_BYTES = 16;

/** Length in bytes of the body that a token makes of so many bytes: IV, ciphertext, tag or MAC. */
export function sealedBytes(scheme: TokenScheme, plaintextBytes: number): number {
  // PKCS #7 padding is 1 to 16 bytes.
  const padding = scheme === 3 ? BLOCK_BYTES - (plaintextBytes % BLOCK_BYTES) : 0;
  return IV_AND_TAG_BYTES[scheme] + plaintextBytes + padding;
}

/** Of scheme 4 the inner scheme: whether it is known comes before how long its data key must be. */
const shortestBody = (scheme: Scheme): number => (scheme === 4 ? 1 : sealedBytes(scheme, 0));

export function makeHeader(scheme: Scheme, keyId: string): Buffer {
  const header = Buffer.allocUnsafe(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt8(FORMAT_VERSION, 8);
  header.writeUInt8(scheme, 9);
  header.write(keyId, 10, 16, 'hex');
  return header;
}

/**
 * Takes the header off a ciphertext, refusing at the first byte out of place. The order decides the status that CredHub sees, and
 * is fixed: bytes that are not ours are INVALID_ARGUMENT ("not this key"), ours of a newer release FAILED_PRECONDITION.
 *
 * Throws KmsError 'foreign-ciphertext', 'unknown-format', 'malformed-ciphertext'.
 */
export function parseHeader(ciphertext: Buffer): Header {
  if (ciphertext.length < MAGIC.length || !ciphertext.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw new KmsError('foreign-ciphertext', 'this plugin did not make this ciphertext');
  }
  const version = ciphertext[8];
  if (version === undefined) throw malformed('it ends before its format version');
  const scheme = ciphertext[9];
  if (version !== FORMAT_VERSION) {
    throw new KmsError('unknown-format', `this release does not know format version ${version}; upgrade the plugin`);
  }
  if (scheme === undefined) throw malformed('it ends before its scheme');
  if (!isScheme(scheme)) {
    throw new KmsError('unknown-format', `this release does not know scheme ${scheme}; upgrade the plugin`);
  }
  if (ciphertext.length < HEADER_BYTES + shortestBody(scheme)) throw malformed('it is too short');
  const body = ciphertext.subarray(HEADER_BYTES);
  if (scheme === 3 && (body.length - IV_AND_TAG_BYTES[scheme]) % BLOCK_BYTES !== 0)
    throw malformed('its length is no whole number of blocks');
  return {
    scheme,
    keyId: ciphertext.toString('hex', 10, HEADER_BYTES),
    header: ciphertext.subarray(0, HEADER_BYTES),
    body,
  };
}

const isScheme = (value: number): value is Scheme => value >= 1 && value <= 4;

export const malformed = (why: string): KmsError =>
  new KmsError('malformed-ciphertext', `the ciphertext is damaged: ${why}`);
