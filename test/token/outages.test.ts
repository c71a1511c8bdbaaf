/** The device fails for a while: what callers see, and how soon it is over. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertFails, Bench, failure } from './support/installation.ts';
import { Load, summary, underLoad } from './support/load.ts';

let bench: Bench;

before(async () => {
  bench = await Bench.make();
});
afterEach(() => bench.reset());
after(() => bench.cleanup());

describe('an outage', () => {
  test('of 5 s is hidden for 2 s, then fails at once, and ends with the device', async (t) => {
    const host = await bench.readyHost();
    const load = new Load(host);
    await sleep(200);
    const began = performance.now();
    bench.faulty.control({ rules: [{ on: '*', answer: 'CKR_DEVICE_ERROR', forMs: 5_000 }] });
    await sleep(3_000);
    const latencies: number[] = [];
    for (let calls = 0; calls < 20; calls++) {
      const started = performance.now();
      const error = await assertFails(host.encrypt(Buffer.from('while it is away')), 'token-away');
      assert.match(error.message, /CKR_DEVICE_ERROR/);
      assert.equal(error.status, 'UNAVAILABLE');
      latencies.push(performance.now() - started);
    }
    const over = began + 5_000;
    await sleep(over + 2_500 - performance.now());
    const report = await load.stop();
    t.diagnostic(summary(t.name, report));
    const firstError = (report.errorTimes[0] ?? 0) - began;
    const firstGood = (report.goodTimes.find((at) => at > began + 1_000) ?? Infinity) - over;
    t.diagnostic(
      `first error ${Math.round(firstError)} ms after the fault began, refusals in ${Math.max(...latencies).toFixed(1)} ms at most, first good answer ${Math.round(firstGood)} ms after the fault ended`,
    );
    assert.ok(firstError > 1_500, `first error after ${firstError} ms`);
    assert.ok(Math.max(...latencies) < 500, 'refused without waiting: limits.hide would be 2 s');
    assert.ok(firstGood < 3_000, `first good answer after ${firstGood} ms`);
    assert.deepEqual(Object.keys(report.errors), ['token-away']);
    for (const { plaintext, ciphertext } of load.kept.slice(-20)) {
      assert.deepEqual(await host.decrypt(ciphertext), plaintext);
    }
  });

  for (const on of ['C_Decrypt', 'C_DecryptInit', 'C_Encrypt', 'C_EncryptInit', 'C_OpenSession'] as const) {
    test(`of ${on} alone for a second is hidden`, async (t) => {
      const host = await bench.readyHost();
      const report = await underLoad(
        host,
        () => bench.faulty.control({ rules: [{ on, answer: 'CKR_DEVICE_ERROR', forMs: 1_000 }] }),
        2_500,
      );
      t.diagnostic(summary(t.name, report));
      assert.deepEqual(report.errors, {});
      assert.equal(host.token.condition().state, 'ready');
    });
  }

  for (const answer of [
    'CKR_DEVICE_ERROR',
    'CKR_GENERAL_ERROR',
    'CKR_FUNCTION_FAILED',
    'CKR_HOST_MEMORY',
    0x80000123,
  ]) {
    test(`of one call in ten (${answer}) is hidden`, async (t) => {
      const host = await bench.readyHost();
      const rules = [{ on: ['C_Encrypt', 'C_Decrypt'], answer, oneIn: 10, forMs: 1_500 }] as const;
      const report = await underLoad(host, () => bench.faulty.control({ rules }), 2_000);
      t.diagnostic(summary(t.name, report));
      assert.deepEqual(report.errors, {});
    });
  }

  test('at the start is told by partition, code and mend, and over without help', async () => {
    bench.faulty.control({ removed: {} });
    const host = bench.host();
    const error = await failure(host.encrypt(Buffer.from('x'), 15_000));
    assert.equal(error.status, 'UNAVAILABLE');
    assert.match(error.message, /label "credhub".*CKR_TOKEN_NOT_PRESENT.*check/);
    bench.faulty.control({});
    await sleep(2_000);
    assert.equal((await host.encrypt(Buffer.from('x'), 2_000)).length, 26 + 12 + 1 + 16);
  });
});

describe('sessions', () => {
  test('a token with room for three is served with two and an anchor', async (t) => {
    bench.faulty.control({ maxSessions: 3 });
    const host = await bench.readyHost();
    const report = await underLoad(host, () => undefined, 500);
    t.diagnostic(summary(t.name, report));
    assert.deepEqual(report.errors, {});
    assert.ok((bench.faulty.counts().processes.at(-1)?.mostSessions ?? 99) <= 3);
    assert.deepEqual(host.token.report().sessions?.limit, 2);
  });

  test('a token that has fewer sessions left than it says is served with those', async (t) => {
    const host = await bench.readyHost();
    const rules = [{ on: 'C_OpenSession', answer: 'CKR_SESSION_COUNT', skip: 2 }] as const;
    await host.encrypt(Buffer.alloc(1));
    bench.faulty.control({ rules });
    const report = await underLoad(host, () => undefined, 500);
    t.diagnostic(summary(t.name, report));
    assert.deepEqual(report.errors, {});
  });

  test('one whose call failed half way is not used again', async (t) => {
    const host = await bench.readyHost();
    await host.encrypt(Buffer.alloc(8));
    const rules = [
      { on: 'C_Encrypt', answer: 'CKR_FUNCTION_FAILED', leaveOpen: true, oneIn: 20 },
      { on: 'C_Decrypt', answer: 'CKR_FUNCTION_FAILED', leaveOpen: true, oneIn: 20 },
    ] as const;
    const report = await underLoad(host, () => bench.faulty.control({ rules }), 1_000);
    t.diagnostic(summary(t.name, report));
    assert.deepEqual(report.errors, {});
    assert.ok(!host.log.lines.some((line) => JSON.stringify(line).includes('CKR_OPERATION_ACTIVE')));
    bench.faulty.control({});
    const { openSessions } = bench.faulty.counts().processes.at(-1) ?? { openSessions: 99 };
    assert.ok(openSessions <= 9, `${openSessions} sessions are open`);
  });

  test('one value is as good as another, the empty one included', async () => {
    const host = await bench.readyHost();
    for (const bytes of [0, 1, 11, 12, 15, 16, 17, 31, 32, 33, 4_095, 4_096, 65_000, 1_048_576]) {
      const plaintext = Buffer.alloc(bytes, bytes % 251);
      const ciphertext = await host.encrypt(plaintext);
      assert.equal(ciphertext.length, 26 + 12 + bytes + 16);
      assert.deepEqual(await host.decrypt(ciphertext), plaintext);
    }
    await assertFails(host.encrypt(Buffer.alloc(1_048_577)), 'value-too-large');
  });
});
