/** Schemes on a token that counts its calls: what each value costs, and what is left when the token is away. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { afterEach, describe, test } from 'node:test';
import { Cipher, parseCiphertext } from '../../src/cipher/index.ts';
import { DataKeyCache } from '../../src/cipher/data-key-cache.ts';
import type { SchemeConfig } from '../../src/config/index.ts';
import { callFor, DIRECT, envelope, newKeyId, sealingKey, turn } from './support/calls.ts';
import { FakeToken } from './support/fake-token.ts';

const OLD = newKeyId();
const NEW = newKeyId();
const VALUE = Buffer.from('a value of some bytes');
const PER_VALUE = envelope({ dataKey: 'per-value' });
const ciphers: Cipher[] = [];

afterEach(() => {
  for (const cipher of ciphers.splice(0)) cipher.close();
});

function make(scheme: SchemeConfig): { cipher: Cipher; token: FakeToken } {
  const token = new FakeToken({
    [OLD]: { aes: randomBytes(32), mac: randomBytes(32) },
    [NEW]: { aes: randomBytes(32) },
  });
  const cipher = new Cipher(token.asToken(), scheme);
  ciphers.push(cipher);
  return { cipher, token };
}

const seal = (cipher: Cipher, keyId = OLD, changes = {}): Promise<Buffer> =>
  cipher.seal(sealingKey(keyId, changes), VALUE, callFor());
const open = (cipher: Cipher, bytes: Buffer): Promise<Buffer> => cipher.open(parseCiphertext(bytes), callFor());
const times = <T>(count: number, work: () => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, work));

describe('what a value costs in HSM calls', () => {
  test('direct: one each way', async () => {
    const { cipher, token } = make(DIRECT);
    const all = await times(5, () => seal(cipher));
    for (const bytes of all) await open(cipher, bytes);
    assert.deepEqual([token.seals.length, token.opens.length], [5, 5]);
    assert.deepEqual(cipher.report(), { cached: 0, hits: 0, misses: 0, made: 0 });
    assert.equal(cipher.servesCached, false);
  });

  test('reuse: two for the data key of 64 values that come at once, none after, none to read them', async () => {
    const { cipher, token } = make(envelope());
    const all = await times(64, () => seal(cipher));
    assert.deepEqual([token.seals.length, token.opens.length], [1, 1]);
    for (const bytes of all) assert.deepEqual(await open(cipher, bytes), VALUE);
    await seal(cipher);
    assert.equal(token.calls, 2);
    const { cached, hits, misses, made, encryptsUntil } = cipher.report();
    assert.deepEqual([cached, hits, misses, made], [1, 64, 0, 1]);
    assert.ok(Date.parse(encryptsUntil ?? '') > Date.now() + 3_500_000);
  });

  test('per-value: one to write, none to read while it is cached', async () => {
    const { cipher, token } = make(PER_VALUE);
    const all = await times(5, () => seal(cipher));
    for (const bytes of all) assert.deepEqual(await open(cipher, bytes), VALUE);
    assert.deepEqual([token.seals.length, token.opens.length], [5, 0]);
    assert.equal(new Set(all.map((bytes) => bytes.toString('hex', 29, 89))).size, 5);
    assert.equal(cipher.report().encryptsUntil, undefined);
  });

  test('another process, or the same one after a restart: one data key more, one call for 64 reads', async () => {
    const first = make(envelope());
    const bytes = await seal(first.cipher);
    const second = new Cipher(first.token.asToken(), envelope());
    ciphers.push(second);
    const before = first.token.calls;
    await times(64, () => open(second, bytes));
    assert.equal(first.token.calls - before, 1);
    const other = await seal(second);
    assert.notEqual(other.toString('hex', 29, 89), bytes.toString('hex', 29, 89));
  });

  test('cache_ttl 0: one for each read', async () => {
    const { cipher, token } = make(envelope({ cacheTtlMs: 0 }));
    const bytes = await seal(cipher);
    const before = token.calls;
    for (let n = 0; n < 3; n++) await open(cipher, bytes);
    assert.equal(token.calls - before, 3);
    assert.equal(cipher.report().cached, 0);
  });

  test('direct, a value too large for one call: a data key of its own, of which nothing stays', async () => {
    const { cipher, token } = make(DIRECT);
    const bytes = await seal(cipher, OLD, { maxValueBytes: VALUE.length - 1 });
    assert.equal(bytes[9], 4);
    assert.equal((await seal(cipher, OLD, { maxValueBytes: VALUE.length }))[9], 1);
    assert.deepEqual(await open(cipher, bytes), VALUE);
    assert.deepEqual([token.seals.length, token.opens.length, cipher.report().cached], [2, 1, 0]);
    cipher.configure({ name: 'direct', largeValues: 'refuse' });
    await assert.rejects(seal(cipher, OLD, { maxValueBytes: VALUE.length - 1 }), { kind: 'value-too-large' });
    assert.deepEqual(await open(cipher, bytes), VALUE, 'reading is not refused');
  });
});

describe('a change of scheme while it runs', () => {
  test('leaves every value readable, and takes data keys along that are not kept any more', async () => {
    const { cipher, token } = make(DIRECT);
    const written: Buffer[] = [];
    for (const scheme of [DIRECT, envelope(), PER_VALUE, DIRECT, envelope(), DIRECT]) {
      cipher.configure(scheme);
      written.push(await seal(cipher));
      for (const bytes of written) assert.deepEqual(await open(cipher, bytes), VALUE);
    }
    assert.deepEqual(
      written.map((bytes) => bytes[9]),
      [1, 4, 4, 1, 4, 1],
    );
    assert.equal(cipher.servesCached, false);
    assert.equal(cipher.report().cached, 0);
    token.away = true;
    for (const bytes of written) await assert.rejects(open(cipher, bytes), { kind: 'token-away' });
  });

  test('with calls under way in the old one', async () => {
    const { cipher, token } = make(envelope());
    const release = token.hold();
    const underWay = times(16, () => seal(cipher));
    await turn();
    cipher.configure(DIRECT);
    release();
    for (const bytes of await underWay) assert.deepEqual(await open(cipher, bytes), VALUE);
    await turn();
    assert.equal(cipher.servesCached, false);
  });
});

describe('with the token away', () => {
  test('reuse: what is cached opens, and encryption goes on within its limits', async () => {
    const { cipher, token } = make(envelope({ maxValues: 3 }));
    const bytes = await seal(cipher);
    const elsewhere = await seal(make(envelope()).cipher);
    token.away = true;
    assert.deepEqual(await open(cipher, bytes), VALUE);
    assert.equal(cipher.servesCached, true);
    await seal(cipher);
    await seal(cipher);
    await assert.rejects(seal(cipher), { kind: 'token-away', status: 'UNAVAILABLE' });
    assert.equal(cipher.report().encryptsUntil, undefined);
    await assert.rejects(open(cipher, elsewhere), { kind: 'token-away' });
    const forged = Buffer.from(bytes);
    forged.writeUInt8(forged.readUInt8(forged.length - 1) ^ 1, forged.length - 1);
    await assert.rejects(open(cipher, forged), { kind: 'token-away' }, 'nothing is proven without the token');
    assert.deepEqual(await open(cipher, bytes), VALUE, 'and nothing is lost by it');
    token.away = false;
    await assert.rejects(open(cipher, forged), { kind: 'not-authentic' });
    assert.deepEqual(await open(cipher, await seal(cipher)), VALUE);
  });

  test('per-value: what is cached opens, and nothing is encrypted', async () => {
    const { cipher, token } = make(PER_VALUE);
    const bytes = await seal(cipher);
    token.away = true;
    assert.deepEqual(await open(cipher, bytes), VALUE);
    await assert.rejects(seal(cipher), { kind: 'token-away' });
  });

  test('a key that is retired takes its data keys with it', async () => {
    const { cipher, token } = make(envelope());
    const bytes = await seal(cipher, OLD);
    await seal(cipher, NEW);
    cipher.keepOnly(new Set([NEW]));
    token.away = true;
    await assert.rejects(open(cipher, bytes), { kind: 'token-away' });
    assert.equal(cipher.report().cached, 1);
    await seal(cipher, NEW);
    cipher.keepOnly(new Set());
    assert.equal(cipher.servesCached, false);
    assert.equal(cipher.report().encryptsUntil, undefined);
  });
});

describe('an HSM that goes wrong', () => {
  test('is found out before many values depend on its data key', async () => {
    for (const operation of ['seal', 'open'] as const) {
      const { cipher, token } = make(envelope());
      token.garble = (at, bytes) => (at === operation ? Buffer.from(bytes.map((byte) => byte ^ 0x55)) : bytes);
      await assert.rejects(seal(cipher), { kind: 'internal', status: 'INTERNAL' });
      assert.equal(cipher.servesCached, false);
      token.garble = undefined;
      await seal(cipher);
    }
  });

  test('gives out no ciphertext, and no verdict about one, by a wrong length', async () => {
    for (const scheme of [DIRECT, envelope(), PER_VALUE]) {
      const { cipher, token } = make(scheme);
      for (const change of [(body: Buffer) => body.subarray(1), (body: Buffer) => Buffer.concat([body, body])]) {
        token.garble = (at, body) => (at === 'seal' ? change(body) : body);
        await assert.rejects(seal(cipher), { kind: 'internal' });
      }
    }
    const { cipher, token } = make(envelope({ cacheTtlMs: 0 }));
    const bytes = await seal(cipher);
    token.garble = (at, body) => (at === 'open' ? body.subarray(1) : body);
    await assert.rejects(open(cipher, bytes), { kind: 'internal' });
  });

  test('by a repeated or zero IV does not encrypt values nor data keys', async () => {
    for (const scheme of [DIRECT, envelope({ maxValues: 1 }), PER_VALUE]) {
      const { cipher, token } = make(scheme);
      const byHsm = { ivBy: 'hsm' };
      await seal(cipher, OLD, byHsm);
      token.garble = (at, body) => (at === 'seal' ? Buffer.concat([Buffer.alloc(12), body.subarray(12)]) : body);
      await assert.rejects(seal(cipher, OLD, byHsm), { kind: 'iv-refused', status: 'INTERNAL' });
      const fixed = randomBytes(12);
      token.garble = (at, body) => (at === 'seal' ? Buffer.concat([fixed, body.subarray(12)]) : body);
      await seal(cipher, NEW, byHsm).catch(() => undefined);
      await assert.rejects(seal(cipher, NEW, byHsm), { kind: 'iv-refused' });
    }
  });
});

test('no buffer that held a data key is left', async () => {
  const { cipher, token } = make(envelope({ cacheSize: 0 }));
  const bytes = await seal(cipher);
  for (let n = 0; n < 3; n++) await open(cipher, bytes);
  await turn();
  assert.equal(token.opened.length, 4);
  assert.ok(token.opened.every((buffer) => buffer.every((byte) => byte === 0)));
});

test('an idle cache does not keep the program alive', () => {
  const cache = new DataKeyCache();
  cache.configure({ size: 10, ttlMs: 60_000 });
  assert.ok(!process.getActiveResourcesInfo().includes('Timeout'));
  cache.close();
});
