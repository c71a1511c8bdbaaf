/** The module takes its process down: what callers see, and what becomes of the request to blame. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertFails, Bench } from './support/installation.ts';
import { Load, summary, underLoad } from './support/load.ts';

let bench: Bench;

before(async () => {
  bench = await Bench.make();
});
afterEach(() => bench.reset());
after(() => bench.cleanup());

describe('a crash under load costs delay and no error', () => {
  for (const crash of ['segv', 'abort', 'exit'] as const) {
    test(`by ${crash}`, async (t) => {
      const host = await bench.readyHost();
      const rules = [{ on: 'C_Decrypt', crash, times: 1, skip: 20 }] as const;
      const report = await underLoad(host, () => bench.faulty.control({ rules }), 2_000);
      t.diagnostic(summary(t.name, report));
      assert.deepEqual(report.errors, {});
      assert.equal(host.token.report().process.restarts, 1);
    });
  }

  test('by SIGKILL, three times', async (t) => {
    const host = await bench.readyHost();
    const report = await underLoad(
      host,
      async () => {
        for (let kills = 0; kills < 3; kills++) {
          process.kill(host.token.report().process.pid ?? 0, 'SIGKILL');
          await sleep(700);
        }
      },
      1_000,
    );
    t.diagnostic(summary(t.name, report));
    assert.deepEqual(report.errors, {});
    assert.equal(host.token.report().process.restarts, 3);
  });

  test('while it connects', async () => {
    bench.faulty.control({ rules: [{ on: 'C_Login', crash: 'segv', times: 1 }] });
    const host = bench.host();
    await host.encrypt(Buffer.alloc(32));
    assert.equal(host.token.report().process.restarts, 1);
  });
});

describe('crashes again and again', () => {
  test('are answered by pauses that grow, and by UNAVAILABLE at once', async (t) => {
    bench.faulty.control({ rules: [{ on: 'C_Initialize', crash: 'segv' }] });
    const host = bench.host();
    await sleep(5_000);
    const ends = host.log.lines.filter(({ message }) => message === 'the token process ended');
    const pauses = ends.map(({ fields }) => Number(fields['pauseMs']));
    t.diagnostic(`pauses: ${pauses.join(', ')} ms`);
    assert.ok(ends.length >= 4 && ends.length <= 8, `${ends.length} processes in 5 s`);
    assert.ok((pauses.at(-1) ?? 0) > (pauses.at(-3) ?? Infinity));
    const started = performance.now();
    const error = await assertFails(host.encrypt(Buffer.alloc(32)), 'token-away');
    assert.ok(performance.now() - started < 500, 'limits.hide would be 2 s');
    assert.match(error.message, /keeps ending the token process/);
    bench.faulty.control({});
    await host.ready();
    await host.encrypt(Buffer.alloc(32));
  });

  test('one call in 400 crashes: nearly nobody sees an error', async (t) => {
    const host = await bench.readyHost();
    const rules = [{ on: ['C_Encrypt', 'C_Decrypt'], crash: 'segv', oneIn: 400, times: 3 }] as const;
    const report = await underLoad(host, () => bench.faulty.control({ rules }), 4_500);
    t.diagnostic(`${summary(t.name, report)}, ${host.token.report().process.restarts} restarts`);
    assert.ok(host.token.report().process.restarts >= 1);
    // By chance one request may be there twice.
    assert.ok(report.errorTimes.length <= 3, JSON.stringify(report.errors));
  });
});

describe('a request that crashes the module', () => {
  test('is INTERNAL after two crashes, is not sent a third time, and takes nobody with it', async (t) => {
    const host = await bench.readyHost();
    const rules = [{ on: 'C_Encrypt', crash: 'segv', length: 666 }] as const;
    bench.faulty.control({ rules });
    const load = new Load(host);
    await sleep(300);
    const error = await assertFails(host.encrypt(Buffer.alloc(666)), 'poisonous-request');
    assert.equal(error.status, 'INTERNAL');
    await sleep(500);
    const report = await load.stop();
    t.diagnostic(summary(t.name, report));
    assert.deepEqual(report.errors, {});
    assert.equal(host.token.report().process.restarts, 2);
    const line = host.log.lines.find(({ message }) => message.includes('two crashes'));
    assert.ok(line);
    assert.equal(line.fields['bytes'], 666);
    assert.equal(line.fields['operation'], 'encrypt');
    assert.equal(line.fields['scheme'], 1);
    assert.match(String(line.fields['keyId']), /^[0-9a-f]{32}$/);
  });
});

describe('what the module prints', () => {
  test('reaches the log without what could be a secret, and bounded', async () => {
    const host = await bench.readyHost();
    const pin = bench.hsm.pin;
    bench.faulty.control({
      rules: [
        { on: 'C_EncryptInit', print: `C_Login(pPin=${pin})`, times: 1 },
        { on: 'C_EncryptInit', print: `trace ${pin} end`, times: 1 },
        { on: 'C_EncryptInit', print: 'key 00112233445566778899aabbccddeeff', times: 1 },
        { on: 'C_EncryptInit', print: 'cannot reach 10.0.0.7: error 0x30', times: 1 },
        { on: 'C_EncryptInit', print: 'x'.repeat(900), times: 1 },
        { on: 'C_EncryptInit', print: 'again', times: 5_000 },
      ],
    });
    const load = new Load(host, 8);
    await sleep(800);
    const report = await load.stop();
    assert.deepEqual(report.errors, {});
    const printed = host.log.lines.filter(({ message }) => message === 'the PKCS#11 module printed');
    const text = printed.map(({ fields }) => String(fields['text'])).join('\n');
    assert.match(text, /cannot reach 10\.0\.0\.7: error 0x30/);
    assert.ok(!JSON.stringify(host.log.lines).includes(pin), text);
    assert.ok(!text.includes('00112233'));
    assert.ok(printed.length > 0 && printed.length <= 80, `${printed.length} lines`);
    assert.ok(printed.every(({ fields }) => String(fields['text']).length <= 600));
  });
});
