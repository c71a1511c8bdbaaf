import type { Config } from '../config/index.ts';
import { createKeyring, type HsmKeyring, type Keyring, type KeyringOptions } from '../keyring/index.ts';
import type { Logger } from '../log/index.ts';
import { createToken, type Token, type TokenOptions } from '../token/index.ts';

/** The keyring as its owner has it; `close` closes the token with it. */
export type OwnedKeyring = Keyring &
  Pick<
    HsmKeyring,
    'start' | 'reload' | 'createKey' | 'inspect' | 'searchedKeys' | 'warnings' | 'dataKeys' | 'ivCount' | 'close'
  >;

/** The rooms on the HSM's side; tests put others in their place. */
export interface Parts {
  createToken(options: TokenOptions): Token;
  createKeyring(options: KeyringOptions): OwnedKeyring;
}

/** The way to the HSM. */
export interface HsmSide {
  readonly token: Token;
  readonly keyring: OwnedKeyring;
}

/** Starts the token process and has the keys looked for, in the background: returns at once, whatever the HSM does. */
export function reachHsm(config: Config, log: Logger, parts: Parts = { createToken, createKeyring }): HsmSide {
  const { stateDir, directory, limits } = config;
  const token = parts.createToken({ config: config.token, stateDir, directory, limits, log: log.child('token') });
  const keyring = parts.createKeyring({ token, config, stateDir, log: log.child('keyring') });
  keyring.start();
  return { token, keyring };
}
