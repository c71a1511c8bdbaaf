/** Ciphertexts: their format and schemes. */
export { Cipher, type DataKeyReport } from './cipher.ts';
export { parseCiphertext, type ParsedCiphertext } from './parse.ts';
export type { SealingKey } from './sealing-key.ts';
