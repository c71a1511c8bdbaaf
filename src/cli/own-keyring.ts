import type { Config } from '../config/index.ts';
import { FAILURES } from '../errors/index.ts';
import { createKeyring } from '../keyring/index.ts';
import type { Log } from '../log/index.ts';
import { preventCoreFiles, refuseDebugger } from '../process/index.ts';
import { prepareStateDir, type OwnedKeyring } from '../service/index.ts';
import { createToken, type Token } from '../token/index.ts';
import { complain } from './terminal.ts';

/** Runs `work` with a token process and a keyring of our own, which begin to reach the token, and ends both. */
export function withOwnKeyring<T>(config: Config, work: (keyring: OwnedKeyring) => Promise<T>): Promise<T> {
  return withOwnToken(config, terminalLog(), ({ keyring }) => work(keyring));
}

/** The same, with the token itself, and a log of the caller's choice. */
export async function withOwnToken<T>(
  config: Config,
  log: Log,
  work: (own: { readonly token: Token; readonly keyring: OwnedKeyring }) => Promise<T>,
): Promise<T> {
  preventCoreFiles();
  refuseDebugger();
  prepareStateDir(config.stateDir);
  const { stateDir, directory, limits } = config;
  const token = createToken({ config: config.token, stateDir, directory, limits, log });
  // A command must not make keys by itself.
  const keys = config.keys.map((key) => ({ ...key, create: false }));
  const keyring: OwnedKeyring = createKeyring({ token, config: { ...config, keys }, stateDir, log });
  try {
    keyring.start();
    return await work({ token, keyring });
  } finally {
    await keyring.close();
  }
}

function terminalLog(): Log {
  const quiet = (): void => undefined;
  // That a key is missing, the verb says itself, or is about to change.
  const error: Log['error'] = (message, fields) => {
    if (fields?.['code'] !== FAILURES['key-missing'].code) complain(message);
  };
  return { error, warn: quiet, info: quiet, debug: quiet };
}
