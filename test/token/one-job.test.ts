/** Modules that go to the HSM for C_…Init: a job of the pool makes it, so as many run at once as there are sessions. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Faults, FunctionName } from '../module/index.ts';
import { assertFails, Bench, type Host } from './support/installation.ts';
import { Load, summary, underLoad } from './support/load.ts';

let bench: Bench;

before(async () => {
  bench = await Bench.make({ active: {}, both: {}, 'both-mac': { generic: true } });
});
afterEach(() => bench.reset());
after(() => bench.cleanup());

const INITS: readonly FunctionName[] = ['C_EncryptInit', 'C_DecryptInit', 'C_SignInit'];
const slow = { on: INITS, delayUs: 4_000 } as const;

const SESSIONS = 16;

/** Calls that were inside the module of this host's token process at one moment, at most. */
function mostRunning(host: Host): number {
  const { pid } = host.token.report().process;
  return bench.faulty.counts().processes.find((process) => process.pid === pid)?.mostRunning ?? 0;
}

/** So many calls of each kind at once; every plaintext comes back. */
async function volley(host: Host, calls: number): Promise<void> {
  await Promise.all(
    Array.from({ length: calls }, async (_, at) => {
      const value = Buffer.alloc(at, at);
      assert.deepEqual(await host.decrypt(await host.encrypt(value)), value);
    }),
  );
}

describe('slow Init calls', () => {
  const ROWS: readonly { name: string; faults: Faults; keys?: { label: string; macLabel?: string }[] }[] = [
    { name: 'gcm', faults: {} },
    { name: 'cloudhsm', faults: { iv: { mode: 'cloudhsm', at: 'encrypt' } } },
    { name: 'cloudhsm', faults: { iv: { mode: 'cloudhsm', at: 'init' } } },
    { name: 'nshield-fips', faults: { iv: { mode: 'nshield', at: 'encrypt' } } },
    { name: 'luna-fips', faults: { iv: { mode: 'luna-fips' } } },
    { name: 'cbc-hmac', faults: { hide: ['CKM_AES_GCM'] }, keys: [{ label: 'both', macLabel: 'both-mac' }] },
  ];
  for (const { name, faults, keys } of ROWS) {
    const at =
      faults.iv?.at === undefined ? '' : `, IV written by C_${faults.iv.at === 'init' ? 'EncryptInit' : 'Encrypt'}`;
    test(`run beside each other: ${name}${at}`, async () => {
      bench.faulty.control({ ...faults, rules: [slow] });
      const host = await bench.readyHost({
        token: { profile: name as 'gcm', sessions: SESSIONS },
        ...(keys === undefined ? {} : { keys }),
      });
      await volley(host, 40);
      assert.ok(mostRunning(host) > SESSIONS / 2, `${mostRunning(host)} calls inside the module at once`);
      assert.equal(host.token.report().process.restarts, 0);
    });
  }

  for (const [sessions, threads] of [
    [1, 5],
    [16, 20],
    [128, 128],
  ] as const) {
    test(`have a thread for each of ${sessions} sessions`, async () => {
      const host = await bench.readyHost({ token: { sessions } });
      await volley(host, sessions);
      const { pid } = host.token.report().process;
      const environment = readFileSync(`/proc/${pid ?? 0}/environ`, 'utf8').split('\0');
      assert.ok(environment.includes(`UV_THREADPOOL_SIZE=${threads}`), environment.join(' '));
    });
  }

  test('that fail are tried again on another session', async () => {
    bench.faulty.control({ rules: [slow] });
    const host = await bench.readyHost();
    await volley(host, 40);
    bench.faulty.control({
      rules: [slow, { on: INITS, answer: 'CKR_SESSION_HANDLE_INVALID', oneIn: 10, times: 20 }],
    });
    await volley(host, 40);
  });

  test('that fail for the ciphertext fail as ever', async () => {
    bench.faulty.control({ rules: [slow] });
    const host = await bench.readyHost();
    await volley(host, 40);
    const forged = await host.encrypt(Buffer.alloc(50));
    forged.writeUInt8(forged.readUInt8(forged.length - 1) ^ 1, forged.length - 1);
    await Promise.all(Array.from({ length: 4 }, () => assertFails(host.decrypt(forged), 'not-authentic')));
  });

  test('one that hangs holds nobody else up, and ends with a new process', async (t) => {
    bench.faulty.control({ rules: [slow] });
    const host = await bench.readyHost({
      limits: { callDeadlineMs: 1_500 },
      killAfterMs: 3_000,
      token: { vendorTimeoutMs: 500 },
    });
    const load = new Load(host, 8);
    await sleep(700);
    bench.faulty.control({ rules: [slow, { on: 'C_DecryptInit', hang: true, times: 1 }] });
    await sleep(1_200);
    const good = load.good;
    await sleep(400);
    assert.ok(load.good > good, 'nothing was answered beside the hanging call');
    await sleep(2_500);
    const report = await load.stop();
    t.diagnostic(summary(t.name, report));
    assert.deepEqual(report.errors, {});
    assert.equal(host.token.report().process.restarts, 1);
  });

  test('a crash in one ends the process, and nobody sees an error', async (t) => {
    bench.faulty.control({ rules: [slow] });
    const host = await bench.readyHost();
    await volley(host, 40);
    const report = await underLoad(
      host,
      () => bench.faulty.control({ rules: [slow, { on: 'C_EncryptInit', crash: 'segv', times: 1 }] }),
      1_500,
      8,
    );
    t.diagnostic(summary(t.name, report));
    assert.deepEqual(report.errors, {});
    assert.equal(host.token.report().process.restarts, 1);
  });

  test('the module is finalized and started anew between them', async () => {
    bench.faulty.control({ rules: [slow] });
    const host = await bench.readyHost();
    await volley(host, 40);
    bench.faulty.wedge();
    await volley(host, 20);
    assert.equal(host.token.report().process.restarts, 0);
  });
});
