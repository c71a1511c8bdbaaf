import { EXIT, type Invocation } from '../command.ts';
import { createKey } from '../keys.ts';

export async function run({ configFile, operands, json, print, printJson }: Invocation): Promise<number> {
  const created = await createKey(configFile, operands[0] ?? '');
  const { label, key, listed } = created;
  if (json) printJson(created);
  else {
    const next = 'list it under keys with state: decrypt on every host, and only then make it active';
    print(`created "${label}", key id ${key.keyIds[0] ?? 'none'}${listed ? '' : `\nNext: ${next}.`}`);
  }
  return EXIT.ok;
}
