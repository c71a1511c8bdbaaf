import { locateService } from '../../config/index.ts';
import { describePins } from '../../token/index.ts';
import { EXIT, type Invocation } from '../command.ts';
import { moment, table } from '../format.ts';

/** Works on state_dir itself, whether or not the service runs. */
export function run({ configFile, json, print, printJson }: Invocation): Promise<number> {
  const pins = describePins(locateService(configFile).stateDir);
  if (json) printJson(pins);
  else if (pins.length === 0) print('Nothing is remembered: the PIN has not been tried yet, or was cleared.');
  else {
    const rows = pins.map(({ serial, label, state, ckr, when }) => [
      serial,
      label,
      MEANING[state],
      ckr ?? '-',
      moment(when),
    ]);
    print(table([['TOKEN SERIAL', 'LABEL', 'PIN', 'LAST ANSWER', 'WHEN'], ...rows]));
  }
  return Promise.resolve(EXIT.ok);
}

const MEANING = {
  good: 'good: the last login worked',
  refused: 'refused: not tried again until "pin clear" or another PIN',
  'not-initialized': 'the token had no user PIN',
  'cut-off': 'login was cut off, its result is unknown',
  tried: 'tried, neither accepted nor refused',
} as const;
