/** docs/doctor-faults.md: made from what doctor said, without what differs from run to run. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Line } from '../../src/doctor/index.ts';
import type { Place } from './place.ts';

export const TABLE = path.resolve(import.meta.dirname, '../../docs/doctor-faults.md');

const HEAD = `# Faults, and what doctor says

Each of these was seeded on a running installation of a busy host by \`test/doctor/faults.test.ts\`, which writes this table and fails when
doctor says something else: the first line of \`kms-plugin doctor\` that fails, and what it says to do. Where nothing fails,
the line that explains what looks like a fault.
[doctor.md](doctor.md) explains how to read it. \`…\` stands for what differs from host to host.

| seeded | first failing line | what to do |
|---|---|---|
`;

export const tableOf = (rows: readonly string[]): string => `${HEAD}${rows.filter((row) => row !== '').join('\n')}\n`;

export function rowOf(seeded: string, { check, verdict, seen, mend }: Line, place: Place): string {
  const text = (part: string): string => steady(part, place).replaceAll('|', '\\|');
  const fails = verdict === 'failure' ? '' : ' (nothing fails)';
  return `| ${seeded} | **${check}**${fails}: ${text(seen)} | ${text(mend ?? '')} |`;
}

function steady(text: string, { installation, faulty }: Place): string {
  return (
    text
      .replaceAll(installation.fixture.directory, '…')
      .replaceAll(faulty.path, '…/libvendor.so')
      .replaceAll(installation.hsm.serial, '…')
      // A token process that has not reached the token yet calls it as the configuration does.
      .replaceAll('partition label "', 'partition "')
      .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '…')
      .replaceAll(/process \d+(\.\d+)? MiB/g, 'process … MiB')
      .replaceAll(/\b(process|ps|slot|CONT) \d+/g, '$1 …')
      .replaceAll(/:\d{4,5}\b/g, ':…')
      .replaceAll(/[0-9a-f]{32}/g, '…')
      .replaceAll(/\d+ of \d+ calls in the last \d+ min/g, '… of … calls in the last … min')
      .replaceAll(/none of \d+ in the last \d+ min/g, 'none of … in the last … min')
      .replaceAll(/\b\d+ d since/g, '… d since')
      .replaceAll(/\b\d+(\.\d+)? (ms|s)\b/g, '… $2')
      .replaceAll(/(…[^ ]*\/)?…\/(?=[a-z])/g, '…/')
  );
}

/** The rows that are there, by what was seeded. */
export function rowsBefore(): ReadonlyMap<string, string> {
  const lines = existsSync(TABLE) ? readFileSync(TABLE, 'utf8').split('\n') : [];
  return new Map(lines.flatMap((line) => (line.startsWith('| ') ? [[line.slice(2).split(' | ')[0] ?? '', line]] : [])));
}

/** Writes the table when it is not the one that is there. @returns whether it was. */
export function isCurrent(table: string): boolean {
  const before = existsSync(TABLE) ? readFileSync(TABLE, 'utf8') : '';
  if (before !== table) writeFileSync(TABLE, table);
  return before === table;
}
