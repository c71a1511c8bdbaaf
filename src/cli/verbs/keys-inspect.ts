import { loadConfig } from '../../config/index.ts';
import type { FoundKeyReport, KeyReport } from '../../keyring/index.ts';
import { CommandError, EXIT, type Invocation } from '../command.ts';
import { moment } from '../format.ts';
import { DROPPING } from '../key-lines.ts';
import { askKeys } from '../keys.ts';

/** Exit status 1 when the key is not listed, not found or not usable. */
export async function run({ configFile, operands, json, print, printJson }: Invocation): Promise<number> {
  const label = operands[0] ?? '';
  const { keys, trouble } = await askKeys(loadConfig(configFile));
  const key = keys.find((each) => each.label === label);
  if (key === undefined) throw new CommandError(`"${label}" is not listed under keys in ${configFile}`);
  if (json) printJson(key);
  else print(describe(key).join('\n'));
  if (trouble !== undefined) throw new CommandError(trouble);
  return key.found.some(({ usable }) => usable) ? EXIT.ok : EXIT.failure;
}

function describe(key: KeyReport): string[] {
  return [
    ...row('label', key.label),
    ...row('state', key.state),
    ...(key.problem === undefined ? [] : row('problem', key.problem)),
    ...(key.found.length === 0 ? row('found', 'no key of this label on the token') : []),
    ...key.found.flatMap((found, at) => ['', ...describeFound(found, at + 1, key.found.length)]),
    ...(key.state === 'decrypt' ? ['', ...row('dropping', DROPPING)] : []),
  ];
}

function describeFound(found: FoundKeyReport, at: number, of: number): string[] {
  const [written, ...others] = found.keyIds;
  return [
    ...(of > 1 ? row('key', `${at} of ${of} under this label`) : []),
    ...row('key id', `${written ?? 'none'}${found.idKind === 'cka-id' ? ' (from CKA_ID)' : ''}`),
    ...others.flatMap((id) => row('', `${id} (answers to it too)`)),
    ...row('size', found.sizeBits === undefined ? 'not told by the token' : `${found.sizeBits} bits`),
    ...row('scheme', String(found.scheme)),
    ...row('usable', found.usable ? 'yes' : 'no'),
    ...found.problems.flatMap((problem) => row('problem', problem)),
    ...row('encrypted', `${found.encrypts} since start`),
    ...row('decrypted', `${found.decrypts} since start`),
    ...(found.lastUsed === undefined ? [] : row('last used', moment(found.lastUsed))),
    ...Object.entries(found.attributes).flatMap(([name, value], index) =>
      row(index === 0 ? 'attributes' : '', `${name} ${value === undefined ? '(not told)' : String(value)}`),
    ),
  ];
}

function row(name: string, value: string): string[] {
  return [`${name.padEnd(12)}${value}`];
}
