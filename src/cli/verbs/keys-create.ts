import { loadConfig } from '../../config/index.ts';
import { EXIT, type Invocation } from '../command.ts';
import { paints } from '../format.ts';
import { keyLines } from '../key-lines.ts';
import { createKey } from '../keys.ts';

export async function run({ configFile, operands, json, colour, print, printJson }: Invocation): Promise<number> {
  const key = await createKey(loadConfig(configFile), operands[0] ?? '');
  if (json) printJson(key);
  else print(['created', ...keyLines(key, paints(colour))].join('\n'));
  return EXIT.ok;
}
