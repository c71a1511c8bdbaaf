/** Ciphertexts: their format and schemes. */
export { Cipher, type Sealed, type SealingKey } from './cipher.ts';
export { parseCiphertext, type ParsedCiphertext } from './parse.ts';
