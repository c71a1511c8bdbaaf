import type { Config } from '../config/index.ts';
import { ControlClient, ServiceUnavailableError } from '../control/index.ts';
import type { KeyReport } from '../keyring/index.ts';

export interface KeysAnswer {
  readonly keys: readonly KeyReport[];
  /** Why the keys could not be looked for, in the operator's words. */
  readonly trouble: string | undefined;
}

/** The keys as the running service knows them; when it is down, as a token process of our own finds them. */
export function askKeys(config: Config): Promise<KeysAnswer> {
  return whenDown(
    async (client) => {
      const { keys, health } = await client.status();
      return { keys, trouble: health.availability === 'ready' ? undefined : health.reason };
    },
    async () => {
      const { withOwnKeyring } = await import('./own-keyring.ts');
      return withOwnKeyring(config, (keyring) => {
        const { availability, reason } = keyring.health();
        return Promise.resolve({ keys: keyring.keys(), trouble: availability === 'ready' ? undefined : reason });
      });
    },
    config,
  );
}

/** Makes a listed key: in the running service, or, when it is down, in a token process of our own. */
export function createKey(config: Config, label: string): Promise<KeyReport> {
  return whenDown(
    (client) => client.createKey(label),
    async () => {
      const { createOwnKey } = await import('./own-keyring.ts');
      return createOwnKey(config, label);
    },
    config,
  );
}

/** A service that is stuck still has the token: then a process of our own would only add to the trouble. */
async function whenDown<T>(ask: (client: ControlClient) => Promise<T>, alone: () => Promise<T>, config: Config) {
  try {
    return await ask(new ControlClient(config.controlSocket));
  } catch (error) {
    if (error instanceof ServiceUnavailableError && error.why === 'down') return await alone();
    throw error;
  }
}
