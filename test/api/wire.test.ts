import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingHttpHeaders } from 'node:http2';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { status as grpc } from '@grpc/grpc-js';
import { serve } from './support/fixture.ts';
import { FakeKeyring, KEY_ID } from './support/keyring.ts';
import { field, WireClient } from './support/wire.ts';

const V1 = '/v1beta1.KeyManagementService/';
const V2 = '/v2.KeyManagementService/';
const HEALTH = '/grpc.health.v1.Health/';

test('names and numbers of fields are those on the wire', async (t) => {
  const { path } = await serve(t, { keyring: new FakeKeyring() });
  const client = new WireClient(path);
  t.after(() => client.session.destroy());
  const ok = async (method: string, ...fields: Buffer[]): Promise<Buffer> => {
    const { message, status } = await client.call(method, Buffer.concat(fields));
    assert.equal(status, '0', method);
    return message;
  };
  const value = Buffer.from('value');

  assert.deepEqual(
    await ok(`${V1}Version`, field(1, 'v1beta1')),
    Buffer.concat([field(1, 'v1beta1'), field(2, 'hsm-kms-plugin'), field(3, '1.2.3')]),
  );
  const sealed1 = await ok(`${V1}Encrypt`, field(1, 'v1beta1'), field(2, value));
  assert.equal(sealed1[0], 0x0a);
  assert.deepEqual(await ok(`${V1}Decrypt`, field(2, sealed1.subarray(2))), field(1, value));

  assert.deepEqual(await ok(`${V2}Status`), Buffer.concat([field(1, 'v2'), field(2, 'ok'), field(3, KEY_ID)]));
  const sealed2 = await ok(`${V2}Encrypt`, field(1, value), field(2, 'uid'));
  const length = sealed2[1] ?? 0;
  assert.deepEqual(sealed2.subarray(2 + length), field(2, KEY_ID));
  const ciphertext = sealed2.subarray(2, 2 + length);
  const request = [field(1, ciphertext), field(2, 'uid'), field(3, KEY_ID)];
  assert.deepEqual(await ok(`${V2}Decrypt`, ...request), field(1, value));
  const annotation = field(4, Buffer.concat([field(1, 'a.test'), field(2, 'x')]));
  assert.equal((await client.call(`${V2}Decrypt`, Buffer.concat([...request, annotation]))).status, '3');

  assert.deepEqual(await ok(`${HEALTH}Check`), Buffer.from([0x08, 1]));
  assert.equal((await client.call(`${HEALTH}Check`, field(1, 'other'))).status, '5');
});

test('fields that are missing or unknown, and bytes that are no protobuf', async (t) => {
  const { path, keyring } = await serve(t);
  const client = new WireClient(path);
  t.after(() => client.session.destroy());
  assert.equal((await client.call(`${V1}Encrypt`, Buffer.alloc(0))).status, '0', 'an empty value');
  assert.equal((await client.call(`${V1}Encrypt`, field(15, 'new'))).status, '0');
  assert.equal((await client.call(`${V1}Decrypt`, Buffer.alloc(0))).status, '3');
  assert.equal((await client.call(`${V1}Encrypt`, Buffer.from('ffffffff', 'hex'))).status, '13');
  assert.equal((await client.call(`${V1}Other`, Buffer.alloc(0))).status, '12');
  assert.equal((await client.call(`${V1}Encrypt`, field(2, 'x'))).status, '0');
  assert.ok(keyring.calls.length > 0);
});

test('pings are answered, however many', async (t) => {
  const { path } = await serve(t);
  const client = new WireClient(path);
  t.after(() => client.session.destroy());
  assert.equal((await client.call(`${V1}Encrypt`, field(2, 'x'))).status, '0');
  for (let round = 0; round < 200; round++) await client.ping();
  assert.deepEqual(client.goaways, []);
  assert.equal((await client.call(`${V1}Encrypt`, field(2, 'x'))).status, '0');
});

const ENCRYPT = `${V1}Encrypt`;

test('a deadline of 25 days or more is none, a shorter one holds', async (t) => {
  const { path: socketPath, keyring } = await serve(t);
  const client = new WireClient(socketPath);
  t.after(() => client.session.destroy());
  for (const timeout of [
    '2147483S',
    '2147484S',
    '2592000S',
    '4294968S',
    '4320000S',
    '700H',
    '40000M',
    '99999999S',
    '99999999H',
  ]) {
    const { status } = await client.call(ENCRYPT, field(2, 'x'), { 'grpc-timeout': timeout });
    assert.equal(status, '0', timeout);
  }
  keyring.before = () => new Promise<void>(() => undefined);
  const { status } = await client.call(ENCRYPT, field(2, 'x'), { 'grpc-timeout': '50m' });
  assert.equal(status, String(grpc.DEADLINE_EXCEEDED));
});

test('a compressed message is refused before it is inflated', async (t) => {
  const { path: socketPath, keyring } = await serve(t);
  const client = new WireClient(socketPath);
  t.after(() => client.session.destroy());
  const body = gzipSync(field(2, 'x'));
  const prefix = Buffer.from([1, 0, 0, 0, body.length]);
  for (const encoding of ['gzip', 'deflate', 'br']) {
    const stream = client.session.request({
      ':method': 'POST',
      ':path': ENCRYPT,
      'content-type': 'application/grpc',
      te: 'trailers',
      'grpc-encoding': encoding,
    });
    stream.end(Buffer.concat([prefix, body]));
    const [headers] = (await once(stream, 'response')) as [IncomingHttpHeaders];
    assert.equal(headers['grpc-status'], String(grpc.UNIMPLEMENTED), encoding);
  }
  assert.equal(keyring.calls.length, 0);
  assert.equal((await client.call(ENCRYPT, field(2, 'x'), { 'grpc-encoding': 'identity' })).status, '0');
});

test('what a client sends in headers is written nowhere', async (t) => {
  const { path: socketPath, log } = await serve(t);
  const written: unknown[] = [];
  for (const method of ['error', 'log', 'info', 'warn'] as const) {
    t.mock.method(console, method, (...args: unknown[]) => void written.push(...args));
  }
  const client = new WireClient(socketPath);
  t.after(() => client.session.destroy());
  const headers = {
    'x-secret': 'hunter2\u00e9',
    'x-secret-bin': 'hunter2\u00e9',
    'grpc-timeout': 'hunter2',
    'x-sécret': 'hunter2',
  };
  for (const [name, value] of Object.entries(headers)) {
    await client.call(ENCRYPT, field(2, 'x'), { [name]: value }).catch(() => undefined);
  }
  assert.deepEqual(written, []);
  assert.doesNotMatch(JSON.stringify(log.lines), /hunter2/);
});
