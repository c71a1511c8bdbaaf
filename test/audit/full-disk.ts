/** The audit trail on a disk that is full for a while. Runs as root of a mount namespace of its own, on a tmpfs in DIR. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { AuditTrail } from '../../src/audit/index.ts';
import { until } from '../api/support/fixture.ts';
import { KeptLog } from '../api/support/log.ts';

const [directory = ''] = process.argv.slice(2);
const LINES = 500;

const uidsIn = (text: string): unknown[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => (JSON.parse(line) as { uid: unknown }).uid);

/** A trail that has met the end of its disk in the middle of a line. */
async function cutShort(name: string): Promise<{ disk: string; file: string; trail: AuditTrail; log: KeptLog }> {
  const disk = path.join(directory, name);
  const file = path.join(disk, 'audit.log');
  mkdirSync(disk);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk]);
  const log = new KeptLog();
  const trail = new AuditTrail(log, { gatherMs: 1, retryMs: 10 });
  trail.use(file);
  for (let uid = 0; uid < LINES; uid++) {
    trail.finished({
      api: 'v2',
      method: 'Encrypt',
      listener: 'kubernetes',
      status: 'OK',
      code: undefined,
      durationMs: 1,
      requestBytes: 32,
      responseBytes: 86,
      keyId: '00112233445566778899aabbccddeeff',
      uid: String(uid),
    });
  }
  await until(() => log.lines.some(({ level, message }) => level === 'error' && message.includes('ENOSPC')));
  assert.notEqual(readFileSync(file, 'latin1').at(-1), '\n');
  return { disk, file, trail, log };
}

const all = Array.from({ length: LINES }, (_, uid) => String(uid));

async function room(): Promise<void> {
  const { disk, file, trail, log } = await cutShort('room');
  execFileSync('mount', ['-o', 'remount,size=1m', disk]);
  await until(() => trail.counts()?.written === LINES);
  assert.deepEqual(uidsIn(readFileSync(file, 'utf8')), all);
  assert.ok(log.lines.some(({ message }) => message === 'the audit trail is written again'));
  await trail.close(1_000);
}

async function rotation(): Promise<void> {
  const { file, trail } = await cutShort('rotation');
  renameSync(file, `${file}.1`);
  const old = readFileSync(`${file}.1`, 'latin1');
  rmSync(`${file}.1`);
  trail.use(file);
  // The old file's room comes back when the trail lets go of it; what is left of the lines fits.
  await until(() => trail.counts()?.written === LINES);
  const whole = old.slice(0, old.lastIndexOf('\n') + 1);
  assert.deepEqual(uidsIn(whole + readFileSync(file, 'latin1')), all);
  await trail.close(1_000);
}

for (const [name, run] of Object.entries({ room, rotation })) {
  await run();
  process.stdout.write(`${name} `);
}
