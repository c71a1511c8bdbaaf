import assert from 'node:assert/strict';
import { test } from 'node:test';
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
