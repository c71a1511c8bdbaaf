/**
 * A partition that encrypts and decrypts. Behind this door: the token process with the vendor's PKCS#11 module, its
 * supervision, sessions, login and PIN memory, and one small file for each kind of HSM.
 */
import type { TokenOptions } from './client/supervisor.ts';
import { TokenClient } from './client/token-client.ts';
import type { Token } from './types.ts';

export type * from './types.ts';
export type { TokenOptions };
export { clearPins, describePins, type PinRecord, type PinState } from './pin/index.ts';

/** A token that is not started yet: `start` reaches for it. */
export function createToken(options: TokenOptions): Token {
  return new TokenClient(options);
}
