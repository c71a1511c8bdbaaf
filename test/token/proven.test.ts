/** Not authentic only when it is proven: a device in trouble must never make a good ciphertext look like a forged one. */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KmsError } from '../../src/errors/index.ts';
import { assertFails, Bench, failure, type Host } from './support/installation.ts';
import type { Rule } from '../module/index.ts';

let bench: Bench;

before(async () => {
  bench = await Bench.make({
    active: {},
    both: {},
    'both-mac': { generic: true },
    'no-encrypt': { id: Buffer.alloc(16, 1) },
  });
});
afterEach(() => bench.reset());
after(() => bench.cleanup());

const CBC = { keys: [{ label: 'both', macLabel: 'both-mac' }], token: { profile: 'cbc-hmac' } } as const;

function flipped(ciphertext: Buffer, at: number): Buffer {
  const copy = Buffer.from(ciphertext);
  const index = at < 0 ? copy.length + at : at;
  copy.writeUInt8(copy.readUInt8(index) ^ 0x10, index);
  return copy;
}

describe('a damaged ciphertext', () => {
  for (const code of ['CKR_GENERAL_ERROR', 'CKR_ENCRYPTED_DATA_INVALID', 'CKR_AEAD_DECRYPT_FAILED']) {
    test(`is proven where the module answers ${code}`, async () => {
      bench.faulty.control({ wrongTag: code });
      const host = await bench.readyHost();
      const ciphertext = await host.encrypt(Buffer.from('a value of some length'));
      for (const at of [26, 38, 40, -1]) {
        const error = await assertFails(host.decrypt(flipped(ciphertext, at)), 'not-authentic');
        assert.equal(error.status, 'INVALID_ARGUMENT');
        assert.match(error.message, new RegExp(code));
      }
      for (const bytes of [0, 1, 65_000, 1_048_576]) {
        await assertFails(host.decrypt(flipped(await host.encrypt(Buffer.alloc(bytes)), -1)), 'not-authentic');
      }
      assert.equal(host.token.condition().state, 'ready');
      assert.deepEqual(await host.decrypt(ciphertext), Buffer.from('a value of some length'));
    });
  }

  for (const code of ['CKR_DEVICE_ERROR', 'CKR_FUNCTION_FAILED', 0x80000001]) {
    test(`is never proven where the module answers ${code}`, async () => {
      bench.faulty.control({ wrongTag: code });
      const host = await bench.readyHost();
      const ciphertext = await host.encrypt(Buffer.from('a value of some length'));
      await assertFails(host.decrypt(flipped(ciphertext, -1)), 'token-away');
      assert.deepEqual(await host.decrypt(ciphertext), Buffer.from('a value of some length'));
    });
  }

  test('is looked at no longer than somebody waits for the answer', async () => {
    const host = await bench.readyHost();
    const forged = flipped(await host.encrypt(Buffer.alloc(32)), -1);
    bench.faulty.control({ rules: [{ on: 'C_Decrypt', delayUs: 30_000 }] });
    const before = bench.faulty.counts().calls.C_Decrypt;
    await assertFails(host.decrypt(forged, 100), 'deadline');
    await sleep(1_000);
    // A whole proof has 18.
    const calls = bench.faulty.counts().calls.C_Decrypt - before;
    assert.ok(calls >= 1 && calls <= 6, `${calls} calls of C_Decrypt`);
  });

  test('of scheme 3 is proven by its MAC, before anything is decrypted', async () => {
    const host = await bench.readyHost(CBC);
    const ciphertext = await host.encrypt(Buffer.from('a value of some length'));
    const decrypts = (): number => bench.faulty.counts().calls.C_Decrypt;
    for (const at of [26, 43, -1]) await assertFails(host.decrypt(flipped(ciphertext, at)), 'not-authentic');
    bench.faulty.control({ rules: [{ on: 'C_Sign', delayUs: 0 }] });
    const before = decrypts();
    await assertFails(host.decrypt(flipped(ciphertext, -1)), 'not-authentic');
    // Known answers only: one before, one after each of eight rounds.
    assert.equal(decrypts() - before, 9);
  });

  test('of scheme 4 is proven by the data key or the value', async () => {
    bench.faulty.control({ iv: { mode: 'cloudhsm' } });
    const host = await bench.readyHost({ token: { profile: 'cloudhsm' } });
    const ciphertext = await host.encrypt(Buffer.alloc(20_000, 1));
    for (const at of [30, 60, 26 + 3 + 60, 200, -1]) {
      await assertFails(host.decrypt(flipped(ciphertext, at)), 'not-authentic');
    }
    assert.deepEqual(await host.decrypt(ciphertext), Buffer.alloc(20_000, 1));
  });

  test('under an id made from CKA_ID is never proven', async () => {
    bench.faulty.control({ hide: ['CKM_AES_ECB', 'CKM_AES_CBC'] });
    const host = await bench.readyHost({ keys: [{ label: 'no-encrypt' }] });
    const [report] = host.keyring.keys();
    // SoftHSM2 gave it no other CKA_ID than this constant one, which names no key.
    assert.match(report?.problem ?? '', /no key id can be computed/);
  });

  test('for some seconds after trouble is not believed to be one', async () => {
    const host = await bench.readyHost();
    const ciphertext = await host.encrypt(Buffer.alloc(32));
    bench.faulty.loseSessions();
    await host.encrypt(Buffer.alloc(32));
    await assertFails(host.decrypt(flipped(ciphertext, -1)), 'token-away');
  });

  const losses: Readonly<Record<string, (host: Host) => void>> = {
    crashed: (host) => process.kill(host.token.report().process.pid ?? 0, 'SIGKILL'),
    // C_GetSlotList is called to connect only: it fails until the process has had its three attempts, and not once more.
    'lost the token': () =>
      bench.faulty.control({
        rules: [
          { on: ['C_EncryptInit', 'C_DecryptInit'], answer: 'CKR_DEVICE_ERROR', forMs: 200 },
          { on: 'C_GetSlotList', answer: 'CKR_DEVICE_ERROR', times: 3 },
        ],
      }),
  };
  for (const [what, lose] of Object.entries(losses)) {
    test(`is not believed at first by the successor of a process that ${what}, and proven later`, async (t) => {
      const host = await bench.readyHost();
      const forged = flipped(await host.encrypt(Buffer.alloc(32)), -1);
      lose(host);
      await host.encrypt(Buffer.alloc(32)).catch(() => undefined);
      await host.ready();
      const succeeded = (): number => host.token.report().process[what === 'crashed' ? 'restarts' : 'replaced'];
      assert.equal(succeeded(), 1);
      const began = performance.now();
      const error = await assertFails(host.decrypt(forged), 'token-away');
      assert.equal(error.status, 'UNAVAILABLE');
      const kinds: string[] = [];
      while (kinds.at(-1) !== 'not-authentic' && kinds.length < 50) {
        await sleep(500);
        kinds.push((await failure(host.decrypt(forged))).kind);
      }
      t.diagnostic(`${kinds.length} more: proven after ${Math.round(performance.now() - began)} ms`);
      assert.equal(kinds.at(-1), 'not-authentic');
      assert.equal(succeeded(), 1);
    });
  }

  test('is not believed at first by a process that did not reach the token at once', async () => {
    const good = await bench.readyHost();
    const forged = flipped(await good.encrypt(Buffer.alloc(32)), -1);
    bench.faulty.control({ rules: [{ on: 'C_GetSlotList', answer: 'CKR_DEVICE_ERROR', times: 1 }] });
    const host = await bench.readyHost();
    await assertFails(host.decrypt(forged), 'token-away');
    assert.equal(host.token.report().process.restarts, 0);
  });

  test('is believed at once by the successor of a process that waited for a PIN', async (t) => {
    const pinFile = path.join(bench.hsm.directory, 'pin-to-be-mended');
    t.after(() => rmSync(pinFile));
    const good = await bench.readyHost();
    const forged = flipped(await good.encrypt(Buffer.alloc(32)), -1);
    writeFileSync(pinFile, '000000', { mode: 0o600 });
    const host = bench.host({ token: { pinFile } });
    await assertFails(host.encrypt(Buffer.alloc(32)), 'pin-refused');
    writeFileSync(pinFile, bench.hsm.pin);
    host.token.reconnect();
    await host.ready();
    assert.equal(host.token.report().process.replaced, 1);
    await assertFails(host.decrypt(forged), 'not-authentic');
  });
});

describe('a good ciphertext', () => {
  /** Decrypts it often while the module fails by these rules; what came of it, by kind. */
  async function outcomes(host: Host, ciphertext: Buffer, rules: readonly Rule[], times: number): Promise<string[]> {
    bench.faulty.control({ rules });
    const results = await Promise.allSettled(Array.from({ length: times }, () => host.decrypt(ciphertext, 5_000)));
    return results.map((result) => {
      if (result.status === 'fulfilled') return 'ok';
      return result.reason instanceof KmsError ? result.reason.kind : String(result.reason);
    });
  }

  const faults: readonly (readonly [string, Rule])[] = [
    ['once in 2', { on: 'C_Decrypt', answer: 'CKR_GENERAL_ERROR', oneIn: 2 }],
    ['once in 5', { on: 'C_Decrypt', answer: 'CKR_GENERAL_ERROR', oneIn: 5 }],
    ['always', { on: 'C_Decrypt', answer: 'CKR_GENERAL_ERROR' }],
    ['for 300 ms', { on: 'C_Decrypt', answer: 'CKR_GENERAL_ERROR', forMs: 300 }],
    ['for this length only', { on: 'C_Decrypt', answer: 'CKR_GENERAL_ERROR', length: 116 }],
    ['from this length on', { on: 'C_Decrypt', answer: 'CKR_GENERAL_ERROR', minLength: 100 }],
    ['once in 2, as a wrong tag', { on: 'C_Decrypt', answer: 'CKR_ENCRYPTED_DATA_INVALID', oneIn: 2 }],
    ['for this length only, as a wrong tag', { on: 'C_Decrypt', answer: 'CKR_AEAD_DECRYPT_FAILED', length: 116 }],
    ['always, at C_DecryptInit', { on: 'C_DecryptInit', answer: 'CKR_GENERAL_ERROR' }],
  ];
  for (const [name, rule] of faults) {
    test(`is not called forged when C_Decrypt fails ${name}`, async (t) => {
      const host = await bench.readyHost();
      const ciphertext = await host.encrypt(Buffer.alloc(100, 4));
      const seen = await outcomes(host, ciphertext, [rule], 60);
      const counts: Record<string, number> = {};
      for (const kind of seen) counts[kind] = (counts[kind] ?? 0) + 1;
      t.diagnostic(`${name}: ${JSON.stringify(counts)}`);
      assert.equal(counts['not-authentic'], undefined);
      assert.deepEqual(
        Object.keys(counts).filter((kind) => kind !== 'ok' && kind !== 'token-away'),
        [],
      );
      bench.faulty.control({});
      await host.ready();
      assert.deepEqual(await host.decrypt(ciphertext), Buffer.alloc(100, 4));
    });
  }

  for (const rule of [
    { on: 'C_Sign', garbage: true, oneIn: 2 },
    { on: 'C_Sign', answer: 'CKR_GENERAL_ERROR', oneIn: 2 },
  ] as const) {
    test(`of scheme 3 is not called forged: ${JSON.stringify(rule)}`, async () => {
      const host = await bench.readyHost(CBC);
      const ciphertext = await host.encrypt(Buffer.alloc(100, 4));
      const seen = await outcomes(host, ciphertext, [rule], 40);
      assert.ok(!seen.includes('not-authentic'), seen.join());
    });
  }
});

describe('a key handle', () => {
  test('that stands for another key after a loss never encrypts', async () => {
    // Objects that are made anew in another order get each other's handles in SoftHSM2's next process only, so the key
    // itself is exchanged: same label, same place, other bytes.
    const host = await bench.readyHost();
    const first = await host.encrypt(Buffer.from('under the first key'));
    await bench.hsm.destroyKey('active');
    const missing = await failure(host.encrypt(Buffer.from('x')));
    assert.equal(missing.kind, 'key-missing');
    await bench.hsm.makeKey('active');
    const replaced = await failure(host.encrypt(Buffer.from('under the second key')));
    assert.equal(replaced.kind, 'key-replaced');
    const lost = await assertFails(host.decrypt(first), 'key-missing');
    assert.equal(lost.status, 'FAILED_PRECONDITION');
  });
});
