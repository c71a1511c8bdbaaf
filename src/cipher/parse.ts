import { parseEnvelope, type EnvelopeBody } from './data-key.ts';
import { parseHeader, type Header } from './header.ts';

/** A ciphertext taken apart; `envelope` is there for scheme 4. */
export interface ParsedCiphertext extends Header {
  readonly envelope?: EnvelopeBody;
}

/**
 * Checks all of a ciphertext's lengths and versions, without any HSM.
 * Throws KmsError 'foreign-ciphertext', 'unknown-format', 'malformed-ciphertext'.
 */
export function parseCiphertext(ciphertext: Buffer): ParsedCiphertext {
  const header = parseHeader(ciphertext);
  return header.scheme === 4 ? { ...header, envelope: parseEnvelope(header.keyId, ciphertext) } : header;
}
