/** Native code that does not come back: deadlines, and the end of the process that hangs. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertFails, Bench } from './support/installation.ts';
import { Load, summary } from './support/load.ts';

let bench: Bench;

before(async () => {
  bench = await Bench.make();
});
afterEach(() => bench.reset());
after(() => bench.cleanup());

/** A tenth of the real times, so that a test need not take a minute. */
const QUICK = { limits: { callDeadlineMs: 1_500 }, killAfterMs: 3_000, token: { vendorTimeoutMs: 500 } } as const;

describe('a hang', () => {
  test('of every function: deadline, then refusals at once, then a new process', async (t) => {
    const host = await bench.readyHost({ ...QUICK, killAfterMs: 6_000 });
    await host.encrypt(Buffer.alloc(32));
    const pid = host.token.report().process.pid;
    bench.faulty.control({ rules: [{ on: '*', hang: true, times: 1_000 }] });
    const began = performance.now();
    const first = await Promise.all(
      Array.from({ length: 8 }, () => assertFails(host.encrypt(Buffer.alloc(32), 1_500), 'deadline')),
    );
    const deadline = performance.now() - began;
    assert.equal(first[0]?.status, 'DEADLINE_EXCEEDED');
    assert.ok(deadline >= 1_450 && deadline < 2_500, `ended after ${deadline} ms`);
    await sleep(2_000);
    const started = performance.now();
    const error = await assertFails(host.encrypt(Buffer.alloc(32), 1_500), 'token-away');
    const refused = performance.now() - started;
    assert.ok(refused < 500, `refused after ${refused} ms: its deadline would be 1.5 s`);
    assert.match(error.message, /has not answered|hangs/);
    assert.equal(host.token.report().stage, 'token process');
    bench.faulty.control({});
    await host.ready();
    const back = performance.now() - began;
    t.diagnostic(
      `deadline after ${Math.round(deadline)} ms, later calls refused in ${refused.toFixed(1)} ms, well again after ${Math.round(back)} ms`,
    );
    assert.notEqual(host.token.report().process.pid, pid);
    assert.ok(host.said('error').some((line) => line.includes('hangs in the PKCS#11 module and is killed')));
    await host.encrypt(Buffer.alloc(32));
  });

  test('of some decrypts lets encrypts go on, and ends with a new process', async (t) => {
    const host = await bench.readyHost(QUICK);
    const ciphertext = await host.encrypt(Buffer.alloc(77));
    // Three of eight sessions hang.
    bench.faulty.control({ rules: [{ on: 'C_Decrypt', hang: true, length: 93, times: 3 }] });
    const hung = [1, 2, 3].map(() => assertFails(host.decrypt(ciphertext, 1_500), 'deadline'));
    await sleep(100);
    const load = new Load(host, 8);
    await Promise.all(hung);
    assert.equal(load.errorCount, 0);
    await sleep(3_500);
    const report = await load.stop();
    t.diagnostic(summary(t.name, report));
    assert.deepEqual(report.errors, {});
    assert.equal(host.token.report().process.restarts, 1);
    assert.deepEqual(await host.decrypt(ciphertext), Buffer.alloc(77));
  });

  test('of everything, the plugin process too (SIGSTOP, a suspended VM), is no hang of the token process', async () => {
    const host = await bench.readyHost(QUICK);
    await host.encrypt(Buffer.alloc(32));
    const { pid } = host.token.report().process;
    bench.faulty.control({ rules: [{ on: 'C_Encrypt', delayUs: 500_000 }] });
    const inFlight = host.encrypt(Buffer.alloc(32), 60_000);
    await sleep(100);
    const script = 'kill -STOP $1 $2; sleep 7; kill -CONT $1; sleep 0.2; kill -CONT $2';
    spawn('sh', ['-c', script, 'sh', String(process.pid), String(pid)], { stdio: 'ignore' });
    await inFlight;
    // Long enough for the watch to look, and for a successor to show.
    await sleep(1_500);
    const { state, process: now } = host.token.report();
    assert.deepEqual([state, now.pid, now.restarts], ['ready', pid, 0]);
    assert.deepEqual(host.said('error'), []);
  });

  test('of C_Login ends with a new process, and the PIN is tried again', async () => {
    const stateDir = bench.newStateDir();
    await (await bench.readyHost({ stateDir })).close();
    bench.faulty.control({ rules: [{ on: 'C_Login', hang: true, times: 1 }] });
    const before = bench.faulty.counts().logins.length;
    const host = bench.host({ ...QUICK, stateDir });
    await assertFails(host.encrypt(Buffer.alloc(32), 1_000), 'deadline');
    await host.ready();
    assert.equal(bench.faulty.counts().logins.length - before, 2);
    await host.encrypt(Buffer.alloc(32));
  });

  test('that repeats gets more time each time', async () => {
    const host = await bench.readyHost({ ...QUICK, killAfterMs: 2_000 });
    bench.faulty.control({ rules: [{ on: 'C_EncryptInit', hang: true }] });
    await assertFails(host.encrypt(Buffer.alloc(32), 1_200), 'deadline');
    const kills = () => host.log.lines.filter(({ message }) => message.includes('is killed'));
    // The second hangs while its process connects: no request of anybody's tells of it.
    for (const until = performance.now() + 30_000; kills().length < 2 && performance.now() < until;) await sleep(50);
    bench.faulty.control({});
    const killed = kills();
    const waited = killed.map(({ fields }) => Number(fields['waitedMs']));
    assert.equal(killed.length, 2);
    assert.ok((waited[0] ?? 0) >= 2_000 && (waited[1] ?? 0) >= 4_000, waited.join());
    await host.ready();
    await host.encrypt(Buffer.alloc(32));
  });
});

describe('an HA group with a dead member', () => {
  test('whose client library needs 20 s to move on is not killed before that', async (t) => {
    // The contract's own times: deadline 10 s, killed after max(30 s, twice 20 s).
    const host = await bench.readyHost();
    const ciphertext = await host.encrypt(Buffer.alloc(32));
    const pid = host.token.report().process.pid;
    bench.faulty.control({ deadMember: { timeoutMs: 20_000 } });
    const load = new Load(host, 4);
    const began = performance.now();
    await sleep(23_000);
    const report = await load.stop();
    t.diagnostic(summary(t.name, report));
    const firstGood = (report.goodTimes[0] ?? Infinity) - began;
    t.diagnostic(`first good answer ${Math.round(firstGood)} ms after the member died`);
    assert.ok(firstGood < 22_000);
    assert.equal(host.token.report().process.pid, pid, 'the same process serves');
    assert.deepEqual(new Set(Object.keys(report.errors)), new Set(['deadline', 'token-away']));
    assert.deepEqual(await host.decrypt(ciphertext), Buffer.alloc(32));
  });
});
