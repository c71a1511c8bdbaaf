import { loadConfig, locateService } from '../config/index.ts';
import { ControlClient, ServiceUnavailableError } from '../control/index.ts';

/**
 * Asks the running service. Of its file only what leads to the control socket must be good: a service whose file was
 * edited badly since, or whose certificate has run out, is the one that is asked most.
 *
 * @param withinMs - how long the service may take, in milliseconds; 5,000 by default.
 * @throws ConfigError when nobody answers and the file is faulty, which is then most likely why.
 */
export async function askRunning<T>(
  configFile: string,
  ask: (client: ControlClient) => Promise<T>,
  withinMs?: number,
): Promise<T> {
  try {
    return await ask(new ControlClient(locateService(configFile).controlSocket, withinMs));
  } catch (error) {
    if (error instanceof ServiceUnavailableError && error.why === 'down') loadConfig(configFile);
    throw error;
  }
}
