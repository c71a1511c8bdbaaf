/** Modules that go to the HSM for C_…Init: threads make those calls side by side, with nothing else changed. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
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

const threads = (host: Host): number => readdirSync(`/proc/${host.token.report().process.pid ?? 0}/task`).length;

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
    test(`go to threads of their own: ${name}${at}`, async () => {
      bench.faulty.control({ ...faults, rules: [slow] });
      const host = await bench.readyHost({
        token: { profile: name as 'gcm' },
        ...(keys === undefined ? {} : { keys }),
      });
      const before = threads(host);
      await volley(host, 40);
      assert.ok(threads(host) > before, `${threads(host)} threads, ${before} before`);
      await volley(host, 40);
      assert.equal(host.token.report().process.restarts, 0);
    });
  }

  test('stay on the main thread where they are fast', async (t) => {
    const host = await bench.readyHost();
    // libuv starts its threads at the first call.
    await volley(host, 16);
    const before = threads(host);
    t.diagnostic(summary(t.name, await underLoad(host, () => undefined, 500, 16)));
    assert.ok(threads(host) <= before, `${threads(host)} threads, ${before} before`);
  });

  test('that fail there are tried again elsewhere', async () => {
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

  test('a crash in one is a crash of the process: nobody sees an error', async (t) => {
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
