import type { ApiServer, ApiServerOptions } from '../api/index.ts';
import type { HsmKeyring, KeyringOptions } from '../keyring/index.ts';
import type { Keyring } from '../keyring/index.ts';
import type { Token, TokenOptions } from '../token/index.ts';

/** The keyring as its owner has it; `close` closes the token with it. */
export type OwnedKeyring = Keyring &
  Pick<HsmKeyring, 'start' | 'reload' | 'createKey' | 'inspect' | 'warnings' | 'dataKeys' | 'ivCount' | 'close'>;

/** The rooms that the service puts together; tests put others in their place. */
export interface Parts {
  createToken(options: TokenOptions): Token;
  createKeyring(options: KeyringOptions): OwnedKeyring;
  createApiServer(options: ApiServerOptions): ApiServer;
}
