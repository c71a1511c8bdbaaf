/** The audit trail on real files: what it holds, and what it says when a disk, a FIFO or a missing directory is in its way. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { FinishedCall } from '../../src/api/index.ts';
import { AuditTrail, type AuditOptions } from '../../src/audit/index.ts';
import { KeptLog } from '../api/support/log.ts';
import { pause, until } from '../api/support/fixture.ts';

const KEY_ID = '00112233445566778899aabbccddeeff';
const call = (changes: Partial<FinishedCall> = {}): FinishedCall => ({
  api: 'v1beta1',
  method: 'Decrypt',
  listener: 'credhub',
  status: 'OK',
  code: undefined,
  durationMs: 1.23456,
  requestBytes: 86,
  responseBytes: 20,
  keyId: KEY_ID,
  uid: undefined,
  ...changes,
});

type Entry = Readonly<Record<string, unknown>>;
const QUICK: AuditOptions = { gatherMs: 1, retryMs: 10 };

let directory: string;
let log: KeptLog;
let trails: AuditTrail[];

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'audit-'));
  log = new KeptLog();
  trails = [];
});
afterEach(async () => {
  for (const trail of trails) await trail.close(1_000);
  rmSync(directory, { recursive: true, force: true });
});

const at = (name: string): string => path.join(directory, name);
const entries = (file: string): Entry[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Entry);
const uids = (file: string): unknown[] => entries(file).map(({ uid }) => uid);
const errors = (): string[] => log.lines.filter(({ level }) => level === 'error').map(({ message }) => message);

function trailTo(file: string, options: AuditOptions = QUICK): AuditTrail {
  const trail = new AuditTrail(log, options);
  trails.push(trail);
  trail.use(file);
  return trail;
}

const written = (trail: AuditTrail, lines: number): Promise<void> =>
  until(() => (trail.counts()?.written ?? 0) >= lines);

describe('the audit trail', () => {
  it('has one line for each operation, with what it was and how it ended, and no other call', async () => {
    const file = at('audit.log');
    const trail = trailTo(file);
    trail.finished(call());
    trail.finished(
      call({
        api: 'v2',
        method: 'Encrypt',
        listener: 'kubernetes',
        status: 'UNAVAILABLE',
        code: 'KMS-2001',
        uid: 'a-uid',
        keyId: undefined,
        responseBytes: 0,
      }),
    );
    for (const method of ['Status', 'Version', 'Check']) trail.finished(call({ method }));
    await written(trail, 2);
    const [first, second, ...rest] = entries(file);
    assert.deepEqual(rest, []);
    assert.ok(Math.abs(Date.parse(String(first?.['time'])) - Date.now()) < 60_000);
    assert.deepEqual(
      { ...first, time: '' },
      {
        time: '',
        api: 'v1beta1',
        method: 'Decrypt',
        listener: 'credhub',
        status: 'OK',
        key_id: KEY_ID,
        request_bytes: 86,
        response_bytes: 20,
        latency_ms: 1.235,
      },
    );
    assert.deepEqual(
      { ...second, time: '' },
      {
        time: '',
        api: 'v2',
        method: 'Encrypt',
        listener: 'kubernetes',
        status: 'UNAVAILABLE',
        code: 'KMS-2001',
        uid: 'a-uid',
        request_bytes: 86,
        response_bytes: 0,
        latency_ms: 1.235,
      },
    );
  });

  it('is mode 0600, whatever the umask and whatever it was', async () => {
    const before = process.umask(0);
    const trail = trailTo(at('new.log'));
    trail.finished(call());
    await written(trail, 1);
    process.umask(before);
    assert.equal(statSync(at('new.log')).mode & 0o777, 0o600);
    writeFileSync(at('old.log'), '');
    chmodSync(at('old.log'), 0o644);
    const other = trailTo(at('old.log'));
    other.finished(call());
    await written(other, 1);
    assert.equal(statSync(at('old.log')).mode & 0o777, 0o600);
  });

  it('cannot be forged or spoilt by a uid', async () => {
    const trail = trailTo(at('audit.log'));
    const uid = 'x"}\n{"forged":1}\u001b[2J\u009b\u202e\u2028é😀';
    trail.finished(call({ uid }));
    await written(trail, 1);
    const text = readFileSync(at('audit.log'), 'latin1');
    assert.match(text, /^[\x20-\x7e]+\n$/);
    assert.deepEqual(uids(at('audit.log')), [uid]);
  });

  it('is written to nowhere when it is off', () => {
    const trail = new AuditTrail(log, QUICK);
    trail.use(undefined);
    trail.finished(call());
    assert.equal(trail.counts(), undefined);
    assert.deepEqual(log.lines, []);
  });

  it('writes what waits when it is closed, or turned off', async () => {
    const slow = { gatherMs: 60_000 };
    const closed = trailTo(at('closed.log'), slow);
    await until(() => statSync(at('closed.log'), { throwIfNoEntry: false }) !== undefined);
    for (let i = 0; i < 100; i++) closed.finished(call({ uid: String(i) }));
    await closed.close(5_000);
    assert.equal(entries(at('closed.log')).length, 100);
    const off = trailTo(at('off.log'));
    for (let i = 0; i < 100; i++) off.finished(call({ uid: String(i) }));
    off.use(undefined);
    off.finished(call({ uid: 'after' }));
    await until(
      () => statSync(at('off.log'), { throwIfNoEntry: false }) !== undefined && entries(at('off.log')).length === 100,
    );
    await pause(20);
    assert.equal(entries(at('off.log')).length, 100);
  });

  it('goes on in a new file after a rotation, without a line lost, and after copytruncate', async () => {
    const file = at('audit.log');
    const trail = trailTo(file);
    for (let i = 0; i < 50; i++) trail.finished(call({ uid: `a${i}` }));
    await written(trail, 50);
    renameSync(file, at('audit.log.1'));
    trail.finished(call({ uid: 'late' }));
    await written(trail, 51);
    assert.equal(uids(at('audit.log.1')).at(-1), 'late');
    for (let i = 0; i < 50; i++) trail.finished(call({ uid: `b${i}` }));
    trail.use(file);
    await written(trail, 101);
    const all = [...uids(at('audit.log.1')), ...uids(file)];
    assert.deepEqual(all, [...numbered('a', 50), 'late', ...numbered('b', 50)]);
    truncateSync(file);
    trail.finished(call({ uid: 'c' }));
    await written(trail, 102);
    assert.deepEqual(uids(file), ['c']);
  });

  it('begins a line of its own in a file that ends in the middle of one', async () => {
    writeFileSync(at('audit.log'), '{"time":"2026');
    const trail = trailTo(at('audit.log'));
    trail.finished(call());
    await written(trail, 1);
    const lines = readFileSync(at('audit.log'), 'utf8').split('\n');
    assert.equal(lines[0], '{"time":"2026');
    assert.equal((JSON.parse(lines[1] ?? '') as Entry)['method'], 'Decrypt');
  });

  it('waits for its directory, keeps what fits, and says how many lines are missing where they are missing', async () => {
    const file = at('later/audit.log');
    const trail = trailTo(file, { ...QUICK, mostBytes: 2_000 });
    for (let i = 0; i < 100; i++) trail.finished(call({ uid: String(i) }));
    await until(() => errors().some((message) => message.startsWith('the audit trail cannot be written (ENOENT')));
    assert.equal(trail.counts()?.written, 0);
    const lost = trail.counts()?.lost ?? 0;
    assert.ok(lost > 0 && lost < 100);
    assert.match(errors().join('\n'), /does not keep up and loses lines/);
    mkdirSync(at('later'));
    await until(() => log.lines.some(({ message }) => message === 'lines are missing in the audit trail'));
    trail.finished(call({ uid: 'after' }));
    await until(() => uids(file).includes('after'));
    const found = entries(file);
    assert.deepEqual(
      found.map(({ uid, lost: gap }) => uid ?? gap),
      [...numbered('', 100 - lost), lost, 'after'],
    );
    const told = log.lines.find(({ message }) => message === 'lines are missing in the audit trail');
    assert.deepEqual([told?.fields['lines'], told?.fields['code']], [lost, 'KMS-1007']);
    assert.equal(trail.counts()?.lost, lost);
  });

  it('loses no line and tears none on a disk that is full for a while, relieved by room or by a rotation', () => {
    const asRoot = process.getuid?.() === 0 ? [] : ['--user', '--map-root-user'];
    const script = path.join(import.meta.dirname, 'full-disk.ts');
    const done = spawnSync(
      'unshare',
      [...asRoot, '--mount', '--', process.execPath, '--import', 'tsx', script, directory],
      { encoding: 'utf8', cwd: path.resolve(import.meta.dirname, '../..'), timeout: 60_000 },
    );
    assert.equal(done.stderr, '');
    assert.equal(done.stdout, 'room rotation ');
  });

  it('does not wait for the reader of a FIFO, and says that it is no file', async () => {
    execFileSync('mkfifo', [at('fifo')]);
    const trail = trailTo(at('fifo'));
    trail.finished(call());
    await until(() => errors().some((message) => message.includes('is no regular file')));
    await trail.close(1_000);
    assert.ok(errors().includes('the audit trail ends without its last lines'));
  });
});

const numbered = (prefix: string, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `${prefix}${index}`);
