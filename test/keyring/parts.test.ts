/** Parts of the keyring that need no HSM: counts of IVs, the sharing of searches. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ownCall } from '../../src/call/index.ts';
import { KmsError } from '../../src/errors/index.ts';
import { IvCounts, ROTATE_FROM } from '../../src/keyring/iv-counts.ts';
import { SearchAgain } from '../../src/keyring/search-again.ts';
import { KeptLog } from '../api/support/log.ts';

const KEY = 'ab'.repeat(16);

function stateDir(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'counts-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

describe('counts of IVs', () => {
  test('last over restarts, and over a crash with at most a step too many', (t) => {
    const directory = stateDir(t);
    const first = new IvCounts(directory, new KeptLog());
    first.add(KEY, 10);
    first.close();
    const second = new IvCounts(directory, new KeptLog());
    assert.equal(second.count(KEY), 10);
    second.add(KEY, 5);
    assert.equal(second.count(KEY), 15);
    // It crashes: what was reserved counts as used.
    const third = new IvCounts(directory, new KeptLog());
    assert.ok(third.count(KEY) >= 15 && third.count(KEY) <= 15 + 65_536);
  });

  test('are written once in 65,536 encryptions', (t) => {
    const directory = stateDir(t);
    const file = path.join(directory, 'iv-counts.json');
    const counts = new IvCounts(directory, new KeptLog());
    counts.add(KEY, 1);
    const before = readFileSync(file, 'utf8');
    for (let ivs = 0; ivs < 65_000; ivs++) counts.add(KEY, 1);
    assert.equal(readFileSync(file, 'utf8'), before);
    for (let ivs = 0; ivs < 1_000; ivs++) counts.add(KEY, 1);
    assert.notEqual(readFileSync(file, 'utf8'), before);
  });

  test('ask for a rotation from 2^30 on, once, and never refuse', (t) => {
    const log = new KeptLog();
    const counts = new IvCounts(stateDir(t), log);
    counts.add(KEY, ROTATE_FROM - 1);
    assert.equal(log.lines.length, 0);
    for (let ivs = 0; ivs < 5; ivs++) counts.add(KEY, 1);
    assert.equal(log.lines.length, 1);
    assert.match(log.lines[0]?.message ?? '', /rotate/);
    assert.equal(counts.count(KEY), ROTATE_FROM + 4);
  });

  test('start again where the file is damaged, and go on where it cannot be written', (t) => {
    const directory = stateDir(t);
    const file = path.join(directory, 'iv-counts.json');
    writeFileSync(file, `{"${KEY}":"many"}`);
    const log = new KeptLog();
    const counts = new IvCounts(directory, log);
    assert.equal(counts.count(KEY), 0);
    assert.match(log.lines[0]?.message ?? '', /cannot be read/);
    mkdirSync(`${file}.${process.pid}.tmp`);
    counts.add(KEY, 1);
    assert.equal(counts.count(KEY), 1);
    assert.match(log.lines[1]?.message ?? '', /cannot be written/);
  });
});

describe('searches again', () => {
  test('begin after the call came, are shared, and are a second apart', async () => {
    const starts: number[] = [];
    const search = new SearchAgain(() => {
      starts.push(performance.now());
      return Promise.resolve();
    });
    const call = ownCall(10_000);
    await search.now(call);
    const asked = performance.now();
    await Promise.all(Array.from({ length: 50 }, () => search.now(call)));
    await search.now(call);
    assert.equal(starts.length, 3);
    assert.ok((starts[1] ?? 0) >= asked, 'a search that began before does not count');
    for (const [index, start] of starts.slice(1).entries()) assert.ok(start - (starts[index] ?? 0) >= 990);
  });

  test('that fail are told to everybody who waits, and to nobody who has gone', async () => {
    const failure = new KmsError('token-away', 'away');
    const search = new SearchAgain(() => Promise.reject(failure));
    const gone = ownCall(1);
    await sleep(20);
    await assert.rejects(search.now(gone), /no answer within/);
    await assert.rejects(search.now(ownCall(5_000)), failure);
    // An unhandled rejection would end this process.
    await sleep(50);
  });
});
