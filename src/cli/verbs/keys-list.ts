import type { KeyReport } from '../../keyring/index.ts';
import { EXIT, type Invocation } from '../command.ts';
import { paints } from '../format.ts';
import { dropping, keyLines } from '../key-lines.ts';
import { askKeys } from '../keys.ts';

/** Exit status 1 when the token cannot be reached, or a listed key is missing, unfit or retired as well. */
export async function run({ configFile, json, colour, print, printJson, complain }: Invocation): Promise<number> {
  const { keys, trouble, listeners } = await askKeys(configFile);
  const advice = dropping(listeners);
  if (json) printJson(keys.map((key) => (key.state === 'decrypt' ? { ...key, dropping: advice.join('; ') } : key)));
  else print(keys.flatMap((key) => lines(key, advice, colour)).join('\n'));
  if (trouble !== undefined) complain(trouble);
  const allGood = keys.every(
    (key) => key.problem === undefined && key.retired === undefined && key.found.some(({ usable }) => usable),
  );
  return trouble === undefined && allGood ? EXIT.ok : EXIT.failure;
}

function lines(key: KeyReport, advice: readonly string[], colour: boolean): string[] {
  const paint = paints(colour);
  const below =
    key.state === 'decrypt' ? [...unused(key), ...advice].map((line) => `${' '.repeat(9)}${paint.faint(line)}`) : [];
  return [...keyLines(key, paint), ...below];
}

/** A key that is new has not to be kept for what is under it, and one that another host wrote with looks the same here. */
const unused = ({ encryptedHere, found }: KeyReport): string[] =>
  encryptedHere || found.length === 0
    ? []
    : [
        'this host has not encrypted with it. If it is new: make it active once every host lists it. If it is an old one:',
      ];
