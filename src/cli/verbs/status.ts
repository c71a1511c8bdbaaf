import { EXIT, type Invocation } from '../command.ts';
import { askRunning } from '../running.ts';
import { statusScreen } from '../status-screen.ts';

/** Exit status 0 when calls succeed, 1 when the service runs and is not ready, 69 when it does not answer. */
export async function run({ configFile, json, colour, print, printJson }: Invocation): Promise<number> {
  const status = await askRunning(configFile, (client) => client.status());
  if (json) printJson(status);
  else print(statusScreen(status, colour, new Date()));
  return status.health.ok ? EXIT.ok : EXIT.failure;
}
