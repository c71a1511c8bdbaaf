/** Which key encrypts, which keys can decrypt, which key made this ciphertext. */
import { HsmKeyring, type KeyringOptions } from './keyring.ts';

export type * from './types.ts';
export type * from './report.ts';
export type { HsmKeyring, KeyringOptions };

export function createKeyring(options: KeyringOptions): HsmKeyring {
  return new HsmKeyring(options);
}
