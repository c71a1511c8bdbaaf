import { locateService } from '../../config/index.ts';
import { ControlClient, ServiceUnavailableError } from '../../control/index.ts';
import { LockHeldError } from '../../lock/index.ts';
import { requireOwner } from '../../service/index.ts';
import { clearPins } from '../../token/index.ts';
import { CommandError, EXIT, type Invocation } from '../command.ts';
import { plural } from '../format.ts';

/** Works on state_dir itself; then tells the service, if it runs, to try again at once. */
export async function run({ configFile, option, json, print, printJson, complain }: Invocation): Promise<number> {
  const { stateDir, controlSocket } = locateService(configFile);
  const serial = option('serial');
  requireOwner(stateDir);
  const forgotten = await forget(stateDir, serial);
  const told = await tell(new ControlClient(controlSocket), serial, complain);
  if (json) printJson({ forgotten, serviceTold: told });
  else print(`${plural(forgotten, 'remembered PIN')} forgotten${told ? '; the running service knows' : ''}`);
  return EXIT.ok;
}

async function forget(stateDir: string, serial: string | undefined): Promise<number> {
  try {
    return await clearPins(stateDir, serial);
  } catch (error) {
    if (!(error instanceof LockHeldError)) throw error;
    throw new CommandError(`a login goes on at this moment (${error.path} is held): try again in a few seconds`);
  }
}

async function tell(client: ControlClient, serial: string | undefined, complain: (text: string) => void) {
  try {
    await client.clearPins(serial);
    return true;
  } catch (error) {
    const down = error instanceof ServiceUnavailableError && error.why === 'down';
    if (!down) complain(`the running service was not told: ${(error as Error).message}`);
    return false;
  }
}
