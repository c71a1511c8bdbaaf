import { ownCall } from '../call/index.ts';
import { loadConfig, type Config } from '../config/index.ts';
import { CLIENT_DEADLINE_MS, ServiceUnavailableError, type ControlClient, type CreatedKey } from '../control/index.ts';
import type { Keyring, KeyReport } from '../keyring/index.ts';
import type { OwnedKeyring } from '../service/index.ts';
import type { Served } from './key-lines.ts';
import { askRunning } from './running.ts';

/** How long the token may take, in milliseconds: nobody waits at a terminal for longer. */
const WAIT_MS = 5_000;

/** A ready token whose keys are still being looked for. */
const SEARCH_MS = 1_500;

export interface KeysAnswer {
  readonly keys: readonly KeyReport[];
  /** Why the keys could not be looked for, in the operator's words. */
  readonly trouble: string | undefined;
  readonly listeners: readonly Served[];
}

/** The keys as the running service knows them; when it is down, as a token process of our own finds them. */
export function askKeys(configFile: string): Promise<KeysAnswer> {
  return whenDown<KeysAnswer>(
    async (client) => {
      const keys = await client.keys();
      const { health, listeners } = await client.status();
      return { keys, listeners, trouble: health.availability === 'ready' ? undefined : health.reason };
    },
    (config) =>
      alone(config, async (keyring) => {
        await settled(keyring);
        const { availability, reason } = keyring.health();
        const trouble = availability === 'ready' ? undefined : reason;
        return { keys: keyring.keys(), listeners: servedBy(config), trouble };
      }),
    configFile,
  );
}

export function servedBy(config: Config): Served[] {
  return config.listeners.map(({ apis, tls }) => ({ apis, tls: tls !== undefined }));
}

/** Makes a key: in the running service, or, when it is down, in a token process of our own. */
export function createKey(configFile: string, label: string): Promise<CreatedKey> {
  return whenDown(
    (client) => client.createKey(label),
    (config) =>
      alone(config, async (keyring) => {
        const key = await keyring.createKey(label, ownCall(CLIENT_DEADLINE_MS));
        return { label, listed: config.keys.some((each) => each.label === label), key };
      }),
    configFile,
  );
}

/** The keys under a label as they are on the token now, listed or not. */
export function inspectKey(configFile: string, label: string): Promise<KeyReport> {
  return whenDown(
    (client) => client.inspectKey(label),
    (config) => alone(config, (keyring) => keyring.inspect(label, ownCall(CLIENT_DEADLINE_MS))),
    configFile,
  );
}

async function alone<T>(config: Config, work: (keyring: OwnedKeyring) => Promise<T>): Promise<T> {
  const { withOwnKeyring } = await import('./own-keyring.ts');
  return withOwnKeyring(config, work);
}

/** A service that is stuck still has the token: then a process of our own would only add to the trouble. */
async function whenDown<T>(
  ask: (client: ControlClient) => Promise<T>,
  alone: (config: Config) => Promise<T>,
  configFile: string,
) {
  try {
    return await askRunning(configFile, ask);
  } catch (error) {
    if (error instanceof ServiceUnavailableError && error.why === 'down') return await alone(loadConfig(configFile));
    throw error;
  }
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
