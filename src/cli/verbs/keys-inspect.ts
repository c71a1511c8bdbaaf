import { loadConfig } from '../../config/index.ts';
import type { FoundKeyReport, KeyReport } from '../../keyring/index.ts';
import { EXIT, type Invocation } from '../command.ts';
import { moment } from '../format.ts';
import { dropping } from '../key-lines.ts';
import { inspectKey, servedBy } from '../keys.ts';

/** Exit status 1 when the token holds no usable key of this label. */
export async function run({ configFile, operands, json, print, printJson }: Invocation): Promise<number> {
  const config = loadConfig(configFile);
  const label = operands[0] ?? '';
  const key = await inspectKey(configFile, label);
  const listed = config.keys.some((each) => each.label === label);
  if (json) printJson({ ...key, listed });
  else print(describe(key, listed, dropping(servedBy(config))).join('\n'));
  return key.found.some(({ usable }) => usable) ? EXIT.ok : EXIT.failure;
}

function describe(key: KeyReport, listed: boolean, advice: readonly string[]): string[] {
  return [
    ...row('label', key.label),
    ...row('state', listed ? key.state : 'not listed in the configuration'),
    ...(key.problem === undefined ? [] : row('problem', key.problem)),
    ...(key.found.length === 0 ? row('found', 'no key of this label on the token') : []),
    ...key.found.flatMap((found, at) => ['', ...describeFound(found, at + 1, key.found.length)]),
    ...(listed && key.state === 'decrypt'
      ? ['', ...advice.flatMap((line, at) => row(at === 0 ? 'dropping' : '', line))]
      : []),
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
    ...(found.firstSeen === undefined ? [] : row('first seen', `${moment(found.firstSeen)} on this host`)),
    ...found.problems.flatMap((problem) => row('problem', problem)),
    ...row('encrypted', `${found.encrypts} since start`),
    ...row('decrypted', `${found.decrypts} since start`),
    ...(found.lastUsed === undefined ? [] : row('last used', moment(found.lastUsed))),
    ...Object.entries(found.attributes).flatMap(([name, value], index) =>
      row(
        index === 0 ? 'attributes' : '',
        `${name} ${value === undefined ? '(not told)' : String(value) || '(empty)'}`,
      ),
    ),
  ];
}

function row(name: string, value: string): string[] {
  return [`${name.padEnd(12)}${value}`];
}
