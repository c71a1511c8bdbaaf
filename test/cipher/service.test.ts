/** The envelope scheme in the program as it ships, on SoftHSM2: change of scheme, absence of the HSM, and what must not leak. */
import assert from 'node:assert/strict';
import { createDecipheriv, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, afterEach, before, describe, test } from 'node:test';
import type { StatusReport } from '../../src/control/index.ts';
import { statusOf, type KmsClient } from '../api/support/clients.ts';
import { verb } from '../service/processes.ts';
import { Plugin } from './support/plugin.ts';

const DIRECT = { name: 'direct' };
const REUSE = { name: 'envelope', data_key: 'reuse' };
const PER_VALUE = { name: 'envelope', data_key: 'per-value' };

async function encrypt(client: KmsClient, value: Buffer): Promise<Buffer> {
  const { response, error } = await client.encrypt(value);
  assert.ok(response !== undefined, error?.message);
  return response.cipher;
}

async function decrypt(client: KmsClient, bytes: Buffer): Promise<Buffer> {
  const { response, error } = await client.decrypt(bytes);
  assert.ok(response !== undefined, error?.message);
  return response.plain;
}

describe('a change of scheme', () => {
  let plugin: Plugin;
  before(async () => (plugin = await Plugin.start(DIRECT)));
  after(() => plugin.close());

  test('at SIGHUP or a restart: each scheme reads what every other wrote', async () => {
    const written: { readonly value: Buffer; readonly bytes: Buffer }[] = [];
    const schemes = [DIRECT, REUSE, PER_VALUE, DIRECT, REUSE];
    for (const [index, scheme] of schemes.entries()) {
      plugin.configure(scheme);
      if (index === 2) await plugin.restart();
      else await plugin.reload();
      const client = plugin.client();
      for (const size of [0, 20, 4096, 1_048_576]) {
        const value = randomBytes(size);
        const bytes = await encrypt(client, value);
        assert.equal(bytes[9], scheme === DIRECT ? 1 : 4);
        written.push({ value, bytes });
      }
      for (const { value, bytes } of written) assert.ok((await decrypt(client, bytes)).equals(value));
    }
  });

  test('at SIGHUP under load: nobody notices', async () => {
    const client = plugin.client();
    let ended = false;
    const seen = new Set<number>();
    const load = Array.from({ length: 8 }, async () => {
      let count = 0;
      while (!ended) {
        const value = randomBytes(200);
        const bytes = await encrypt(client, value);
        seen.add(bytes[9] ?? 0);
        assert.ok((await decrypt(client, bytes)).equals(value));
        count++;
      }
      return count;
    });
    for (const scheme of [DIRECT, REUSE, PER_VALUE, REUSE, DIRECT, REUSE]) {
      plugin.configure(scheme);
      await plugin.reload();
      await sleep(150);
    }
    ended = true;
    const counts = await Promise.all(load);
    assert.ok(
      counts.every((count) => count > 0),
      String(counts),
    );
    assert.deepEqual([...seen].sort(), [1, 4]);
  });

  test('to envelope saves HSM calls: none to write and read again', async () => {
    plugin.configure(REUSE);
    await plugin.restart();
    const client = plugin.client();
    const first = await encrypt(client, randomBytes(100));
    const before = plugin.hsmCalls();
    for (let n = 0; n < 200; n++) await decrypt(client, await encrypt(client, randomBytes(100)));
    await decrypt(client, first);
    // A probe may come in between.
    assert.ok(plugin.hsmCalls() - before < 10, String(plugin.hsmCalls() - before));
  });
});

describe('with the HSM away', () => {
  let plugin: Plugin;
  afterEach(async () => {
    plugin.faulty.control({});
    await plugin.close();
  });

  test('reuse goes on from the cache within its limits, and says so everywhere', async () => {
    plugin = await Plugin.start({ ...REUSE, max_age: '6s' });
    const client = plugin.client();
    const value = randomBytes(100);
    await encrypt(client, randomBytes(10));
    // Another run's data key: not in this one's cache.
    const elsewhere = await encrypt(client, value);
    await plugin.restart();
    const again = plugin.client();
    const cached = await encrypt(again, value);
    const made = performance.now();

    plugin.faulty.control({ removed: {} });
    // The first call that needs the HSM finds out.
    assert.equal(statusOf(await again.decrypt(elsewhere)), 'UNAVAILABLE');
    await plugin.service.said(/^not ready/);
    assert.deepEqual(await decrypt(again, cached), value);
    assert.deepEqual(await decrypt(again, await encrypt(again, value)), value);
    assert.equal(statusOf(await again.decrypt(elsewhere)), 'UNAVAILABLE');
    assert.ok(performance.now() - made < 5_500, 'this machine is too slow for this test');

    const says = /1 cached data keys? decrypts?.*, Encrypt goes on until 2\d{3}-/;
    const readiness = await plugin.health('readiness');
    assert.equal(readiness.status, 503);
    assert.match(readiness.body, says);
    assert.equal((await plugin.health('liveness')).status, 200);
    assert.match((await again.status()).response?.healthz ?? '', says);
    const screen = verb('status', '--config', plugin.installation.config);
    assert.match(screen.stdout.replaceAll(/\s+/g, ' '), says);
    assert.match(screen.stdout, /^data keys +1 cached, 1 made/m);
    const report = JSON.parse(verb('status', '--json', '--config', plugin.installation.config).stdout) as StatusReport;
    assert.deepEqual([report.dataKeys.cached, report.dataKeys.made], [1, 1]);
    assert.ok(Date.parse(report.dataKeys.encryptsUntil ?? '') > Date.now());

    await sleep(Math.max(0, 6_200 - (performance.now() - made)));
    const refused = await again.encrypt(value);
    assert.equal(statusOf(refused), 'UNAVAILABLE');
    assert.match(refused.error?.details ?? '', /KMS-2001/);
    assert.deepEqual(await decrypt(again, cached), value, 'reading goes on: cache_ttl is longer');
    assert.doesNotMatch((await plugin.health('readiness')).body, /Encrypt goes on/);

    plugin.faulty.control({});
    await plugin.ready();
    assert.deepEqual(await decrypt(again, await encrypt(again, value)), value);
    assert.deepEqual(await decrypt(again, elsewhere), value);
  });

  test('a rotation and a retirement at SIGHUP hold at once, for what is cached as well', async () => {
    plugin = await Plugin.start(REUSE);
    const client = plugin.client();
    const value = randomBytes(100);
    const bytes = await encrypt(client, value);
    const keyId = bytes.toString('hex', 10, 26);
    plugin.faulty.control({ removed: {} });
    assert.equal(statusOf(await client.decrypt(Buffer.concat([bytes, Buffer.of(0)]))), 'UNAVAILABLE');
    await encrypt(client, value);

    const [active, old] = ['key-2024', 'key-2026'].map((label) => ({ label }));
    plugin.configure(REUSE, [
      { ...active, state: 'active' },
      { ...old, state: 'decrypt' },
    ]);
    await plugin.reload();
    assert.equal(statusOf(await client.encrypt(value)), 'UNAVAILABLE', 'nothing new under the old key');
    assert.deepEqual(await decrypt(client, bytes), value);

    plugin.configure(REUSE, [{ ...active, state: 'active' }], [keyId]);
    await plugin.reload();
    assert.equal(statusOf(await client.decrypt(bytes)), 'INVALID_ARGUMENT', 'retired');

    plugin.faulty.control({});
    await plugin.ready();
    assert.notEqual((await encrypt(client, value)).toString('hex', 10, 26), keyId);
    assert.equal(statusOf(await client.decrypt(bytes)), 'INVALID_ARGUMENT');
  });

  test('cache_ttl ends reading as well, and direct reads nothing', async () => {
    plugin = await Plugin.start({ ...PER_VALUE, cache_ttl: '3s' });
    const client = plugin.client();
    const value = randomBytes(100);
    const bytes = await encrypt(client, value);
    plugin.faulty.control({ removed: {} });
    assert.equal(statusOf(await client.encrypt(value)), 'UNAVAILABLE');
    assert.deepEqual(await decrypt(client, bytes), value);
    await sleep(3_100);
    assert.equal(statusOf(await client.decrypt(bytes)), 'UNAVAILABLE');
    plugin.faulty.control({});
    await plugin.ready();
    plugin.configure(DIRECT);
    await plugin.reload();
    assert.deepEqual(await decrypt(client, bytes), value);
    plugin.faulty.control({ removed: {} });
    assert.equal(statusOf(await client.encrypt(value)), 'UNAVAILABLE');
    assert.equal(statusOf(await client.decrypt(bytes)), 'UNAVAILABLE');
  });
});

describe('secrets', () => {
  let plugin: Plugin;
  before(async () => (plugin = await Plugin.start(DIRECT)));
  after(() => plugin.close());

  /** The data key of a ciphertext, given the HSM's key. */
  function dataKeyOf(bytes: Buffer, raw: Buffer): Buffer {
    const sealed = bytes.subarray(29, 89);
    const decipher = createDecipheriv('aes-256-gcm', raw, sealed.subarray(0, 12), { authTagLength: 16 });
    decipher.setAAD(bytes.subarray(0, 27));
    decipher.setAuthTag(sealed.subarray(44));
    return Buffer.concat([decipher.update(sealed.subarray(12, 44)), decipher.final()]);
  }

  const written = (directory: string): Buffer[] =>
    readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => readFileSync(path.join(entry.parentPath, entry.name)));

  test('neither data keys nor values are written anywhere', async () => {
    const raw = randomBytes(32);
    await plugin.installation.hsm.makeKey('known', { value: raw });
    const keys = [
      { label: 'known', state: 'active' },
      { label: 'key-2026', state: 'decrypt' },
    ];
    const secrets: Buffer[] = [];
    for (const scheme of [REUSE, PER_VALUE]) {
      plugin.configure(scheme, keys);
      await plugin.restart();
      const client = plugin.client();
      const value = randomBytes(48);
      const bytes = await encrypt(client, value);
      await decrypt(client, bytes);
      const forged = Buffer.from(bytes);
      forged.writeUInt8(forged.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
      assert.equal(statusOf(await client.decrypt(forged)), 'INVALID_ARGUMENT');
      plugin.faulty.control({ removed: {} });
      await client.encrypt(value);
      await decrypt(client, bytes);
      plugin.faulty.control({});
      const dataKey = dataKeyOf(bytes, raw);
      assert.equal(dataKey.length, 32);
      secrets.push(dataKey, value);
    }
    await plugin.service.stop();
    const places = [
      Buffer.from(plugin.service.stdout),
      Buffer.from(plugin.service.stderr),
      ...written(plugin.installation.fixture.at('state')),
    ];
    assert.ok(places.length > 3 && plugin.service.stdout.includes('token ready'));
    for (const secret of secrets) {
      for (const form of [
        secret,
        secret.toString('hex'),
        secret.toString('base64').slice(0, -2),
        `${secret[0]},${secret[1]},${secret[2]},`,
      ]) {
        for (const place of places) assert.equal(place.indexOf(form), -1);
      }
    }
  });
});
