import { ownCall } from '../call/index.ts';
import type { Config } from '../config/index.ts';
import { KmsError } from '../errors/index.ts';
import * as keyrings from '../keyring/index.ts';
import type { Keyring, KeyReport } from '../keyring/index.ts';
import type { Log } from '../log/index.ts';
import { preventCoreFiles, refuseDebugger } from '../process/index.ts';
import { prepareStateDir, type OwnedKeyring } from '../service/index.ts';
import { createToken } from '../token/index.ts';
import { CommandError } from './command.ts';
import { requireOwnStateDir } from './own-state-dir.ts';
import { complain } from './terminal.ts';

/** How long the token may take, in milliseconds: nobody waits at a terminal for longer. */
const WAIT_MS = 5_000;

/** A ready token whose keys are still being looked for. */
const SEARCH_MS = 1_500;

/** Runs `work` with a token process and a keyring of our own, as soon as the token is ready or 5 s have passed. */
export async function withOwnKeyring<T>(config: Config, work: (keyring: OwnedKeyring) => Promise<T>): Promise<T> {
  preventCoreFiles();
  refuseDebugger();
  requireOwnStateDir(config.stateDir);
  prepareStateDir(config.stateDir);
  const { stateDir, directory, limits } = config;
  const log = terminalLog();
  const token = createToken({ config: config.token, stateDir, directory, limits, log });
  // A command must not make keys by itself.
  const keys = config.keys.map((key) => ({ ...key, create: false }));
  const keyring: OwnedKeyring = keyrings.createKeyring({ token, config: { ...config, keys }, stateDir, log });
  try {
    keyring.start();
    await settled(keyring);
    return await work(keyring);
  } finally {
    await keyring.close();
    await token.close();
  }
}

export function createOwnKey(config: Config, label: string): Promise<KeyReport> {
  return withOwnKeyring(config, async (keyring) => {
    const { availability, reason } = keyring.health();
    if (availability !== 'ready') throw new CommandError(reason);
    await keyring.createKey(label, ownCall(WAIT_MS));
    const report = keyring.keys().find((key) => key.label === label);
    if (report === undefined) throw new KmsError('key-missing', `the key ${label} was made and cannot be found`);
    return report;
  });
}

/** Waits until the keyring is well, the PIN is refused, or the time is up. */
function settled(keyring: Keyring): Promise<void> {
  return new Promise((resolve) => {
    let searching: NodeJS.Timeout | undefined;
    const done = (): void => {
      clearTimeout(all);
      clearTimeout(searching);
      stop();
      resolve();
    };
    const look = (): void => {
      const { ok, availability } = keyring.health();
      if (ok || availability === 'refused') done();
      else if (availability === 'ready') searching ??= setTimeout(done, SEARCH_MS);
    };
    const all = setTimeout(done, WAIT_MS);
    const stop = keyring.onChange(look);
    look();
  });
}

function terminalLog(): Log {
  const quiet = (): void => undefined;
  return { error: complain, warn: quiet, info: quiet, debug: quiet };
}
