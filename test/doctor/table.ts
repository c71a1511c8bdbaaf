/** docs/doctor-faults.md: made from what doctor said, without what differs from run to run. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Line } from '../../src/doctor/index.ts';
import type { Place } from './place.ts';

export const TABLE = path.resolve(import.meta.dirname, '../../docs/doctor-faults.md');

export interface Row {
  readonly seeded: string;
  readonly line: Line;
}

const HEAD = `# Faults, and what doctor says

Each of these was seeded on a running installation by \`test/doctor/faults.test.ts\`, which writes this table and fails when
doctor says something else: the first line of \`kms-plugin doctor\` that fails, and what it says to do.
[doctor.md](doctor.md) explains how to read it. \`…\` stands for what differs from host to host.

| seeded | first failing line | what to do |
|---|---|---|
`;

export function tableOf(rows: readonly Row[], place: Place): string {
  const text = (part: string): string => steady(part, place).replaceAll('|', '\\|');
  const lines = rows.map(
    ({ seeded, line }) => `| ${seeded} | **${line.check}**: ${text(line.seen)} | ${text(line.mend ?? '')} |`,
  );
  return `${HEAD}${lines.join('\n')}\n`;
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
      .replaceAll(/\b(process|ps|slot|CONT) \d+/g, '$1 …')
      .replaceAll(/:\d{4,5}\b/g, ':…')
      .replaceAll(/[0-9a-f]{32}/g, '…')
      .replaceAll(/\b\d+(\.\d+)? (ms|s)\b/g, '… $2')
      .replaceAll(/(…[^ ]*\/)?…\/(?=[a-z])/g, '…/')
  );
}

/** Writes the table when it is not the one that is there. @returns whether it was. */
export function isCurrent(table: string): boolean {
  const before = existsSync(TABLE) ? readFileSync(TABLE, 'utf8') : '';
  if (before !== table) writeFileSync(TABLE, table);
  return before === table;
}
