import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { FAILURES, type FailureKind, KmsError } from '../../src/errors/index.ts';
import { statusOf } from './support/clients.ts';
import { pause, serve, until } from './support/fixture.ts';
import { FakeKeyring, KEY_ID } from './support/keyring.ts';

const KIB = 1024;
const SIZES = [
  0, 1, 15, 16, 17, 16 * KIB - 1, 16 * KIB, 16 * KIB + 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 65_000,
  KIB * KIB - 1, KIB * KIB,
]; // prettier-ignore

test('v1beta1: every size up to the limit round-trips, an empty value too', async (t) => {
  const { client } = await serve(t);
  const kms = client();
  for (const size of SIZES) {
    const plain = randomBytes(size);
    const sealed = await kms.encrypt(plain);
    assert.equal(statusOf(sealed), 'OK', `encrypt ${size}`);
    const opened = await kms.decrypt(sealed.response?.cipher ?? Buffer.alloc(0));
    assert.equal(statusOf(opened), 'OK', `decrypt ${size}`);
    assert.ok(opened.response?.plain.equals(plain), `value of ${size} bytes`);
  }
});

test('v1beta1: a value above the limit is refused, and the connection lives on', async (t) => {
  const { client, keyring, server } = await serve(t);
  const kms = client();
  const refused = await kms.encrypt(Buffer.alloc(KIB * KIB + 1));
  assert.equal(statusOf(refused), 'RESOURCE_EXHAUSTED');
  assert.match(refused.error?.details ?? '', /1048577 bytes.*1048576.*\[KMS-5004\]$/);
  assert.equal(keyring.calls.length, 0, 'the keyring was not asked');
  assert.equal(statusOf(await kms.encrypt(Buffer.from('x'))), 'OK');
  assert.equal(server.listeners()[0]?.connections, 1);
});

test('v1beta1: Decrypt takes what is above the value limit', async (t) => {
  const { client } = await serve(t, { limits: { valueBytes: 100 } });
  const kms = client();
  const answer = await kms.decrypt(Buffer.alloc(1000));
  assert.equal(statusOf(answer), 'INVALID_ARGUMENT', 'it is looked at: bytes of another');
});

test('a message above the limit is refused, and the connection lives on', async (t) => {
  const { client, server } = await serve(t);
  const kms = client();
  assert.equal(statusOf(await kms.version()), 'OK');
  for (let round = 0; round < 3; round++) {
    const refused = await kms.encrypt(Buffer.alloc(5 * KIB * KIB));
    assert.equal(statusOf(refused), 'RESOURCE_EXHAUSTED');
    assert.match(refused.error?.details ?? '', /larger than max/);
    assert.equal(statusOf(await kms.encrypt(Buffer.from('x'))), 'OK');
  }
  assert.equal(server.listeners()[0]?.connections, 1);
});

test('v1beta1: Version', async (t) => {
  const { client } = await serve(t);
  const kms = client();
  for (const version of ['', 'v1beta1']) {
    assert.deepEqual((await kms.version(version)).response, {
      version: 'v1beta1',
      runtime_name: 'hsm-kms-plugin',
      runtime_version: '1.2.3',
    });
  }
});

test('v1beta1: a wrong version is refused by every method', async (t) => {
  const { client, keyring } = await serve(t);
  const kms = client();
  const request = { version: 'v2', plain: Buffer.from('x'), cipher: Buffer.from('x') };
  for (const method of [kms.v1.Version, kms.v1.Encrypt, kms.v1.Decrypt]) {
    const answer = await kms.call(method, kms.v1, request);
    assert.equal(statusOf(answer), 'INVALID_ARGUMENT');
    assert.match(answer.error?.details ?? '', /\[KMS-5001\]$/);
  }
  assert.equal(keyring.calls.length, 0);
  assert.equal(statusOf(await kms.call(kms.v1.Encrypt, kms.v1, { version: 'v1beta1', plain: Buffer.from('x') })), 'OK');
});

test('v2: Status comes from memory, tells the truth, and is an error while no key was ever seen', async (t) => {
  const { client, keyring } = await serve(t);
  const kms = client();
  assert.deepEqual((await kms.status()).response, { version: 'v2', healthz: 'ok', key_id: KEY_ID });
  keyring.become('away');
  assert.deepEqual((await kms.status()).response, {
    version: 'v2',
    healthz: 'partition test: the token is away',
    key_id: KEY_ID,
  });
  keyring.activeKeyId = undefined;
  const unknown = await kms.status();
  assert.equal(statusOf(unknown), 'UNAVAILABLE');
  assert.match(unknown.error?.details ?? '', /the token is away \[KMS-2002\]$/);
  assert.equal(keyring.calls.length, 0, 'the keyring was not asked to work');
});

test('v2: Status names no key once the active one is gone, and names it in every other trouble', async (t) => {
  const { client, keyring } = await serve(t);
  const kms = client();
  const availabilities = ['ready', 'away', 'starting', 'refused'] as const;
  for (const [gone, keyId] of [
    [true, ''],
    [false, KEY_ID],
  ] as const) {
    keyring.activeKeyGone = gone;
    for (const availability of availabilities) {
      keyring.become(availability);
      assert.equal((await kms.status()).response?.key_id, keyId, availability);
    }
  }
});

test('not ready when calls are in flight and none has succeeded for 3 s, ready again with the next success', async (t) => {
  const { client, keyring, server } = await serve(t);
  const kms = client();
  const held: (() => void)[] = [];
  keyring.before = () => new Promise((resolve) => held.push(resolve));
  const first = kms.encrypt(Buffer.from('x'));
  await until(() => held.length === 1);
  assert.equal(server.health().ok, true);
  await until(() => !server.health().ok);
  const { healthz, key_id } = (await kms.status()).response ?? {};
  assert.match(healthz ?? '', /^the HSM has answered no call for \d s, with calls in flight$/);
  assert.equal(key_id, KEY_ID);
  assert.equal((await kms.check('')).response?.status, 'NOT_SERVING');
  const second = kms.encrypt(Buffer.from('y'));
  await until(() => held.length === 2);
  held[1]?.();
  assert.equal(statusOf(await second), 'OK');
  assert.equal(server.health().ok, true, 'one call succeeds, whatever has become of the other');
  held[0]?.();
  assert.equal(statusOf(await first), 'OK');
  assert.equal(server.health().ok, true);
});

test('v2: Encrypt answers with the key id and without annotations, Decrypt takes them back', async (t) => {
  const { client } = await serve(t);
  const kms = client();
  const plaintext = randomBytes(32);
  const sealed = await kms.call<{ ciphertext: Buffer; key_id: string; annotations: object }>(kms.v2.Encrypt, kms.v2, {
    plaintext,
    uid: 'a',
  });
  assert.equal(sealed.response?.key_id, KEY_ID);
  assert.deepEqual(sealed.response.annotations, {});
  const { ciphertext, key_id } = sealed.response;
  const opened = await kms.call<{ plaintext: Buffer }>(kms.v2.Decrypt, kms.v2, { ciphertext, key_id, uid: 'b' });
  assert.ok(opened.response?.plaintext.equals(plaintext));
});

test('v2: key_id and annotations that do not belong to the ciphertext are refused', async (t) => {
  const { client } = await serve(t);
  const kms = client();
  const sealed = await kms.call<{ ciphertext: Buffer }>(kms.v2.Encrypt, kms.v2, { plaintext: Buffer.from('x') });
  const ciphertext = sealed.response?.ciphertext ?? Buffer.alloc(0);
  const decrypt = async (request: object): Promise<string> => {
    const answer = await kms.call(kms.v2.Decrypt, kms.v2, { ciphertext, key_id: KEY_ID, ...request });
    return `${statusOf(answer)} ${/KMS-\d+/.exec(answer.error?.details ?? '')?.[0] ?? ''}`;
  };
  const annotations = { 'a.example.org': Buffer.from('1') };
  assert.equal((await decrypt({ key_id: '' })).trim(), 'OK', 'the header names the key');
  assert.equal(await decrypt({ key_id: KEY_ID.replace('0', '1') }), 'INVALID_ARGUMENT KMS-5002');
  assert.equal(await decrypt({ annotations }), 'INVALID_ARGUMENT KMS-5003');
  assert.equal(await decrypt({ ciphertext: Buffer.from('not ours'), key_id: '' }), 'INVALID_ARGUMENT KMS-4001');
  assert.equal(await decrypt({ ciphertext: Buffer.from('not ours'), annotations }), 'INVALID_ARGUMENT KMS-4001');
  assert.equal(await decrypt({ annotations }), 'INVALID_ARGUMENT KMS-5003');
  assert.equal(await decrypt({}), 'OK ');
});

test('v2: a ciphertext is never longer than Kubernetes takes', async (t) => {
  const { client, keyring } = await serve(t);
  const kms = client();
  const encrypt = async (bytes: number): Promise<string> =>
    statusOf(await kms.call(kms.v2.Encrypt, kms.v2, { plaintext: Buffer.alloc(bytes) }));
  assert.equal(await encrypt(970), 'OK');
  assert.equal(keyring.calls.length, 1);
  assert.equal(await encrypt(971), 'RESOURCE_EXHAUSTED');
  assert.equal(keyring.calls.length, 1, 'refused before the HSM works for it');
  keyring.extra = 1024 - 24 - 100;
  assert.equal(await encrypt(100), 'OK');
  keyring.extra += 1;
  assert.equal(await encrypt(100), 'RESOURCE_EXHAUSTED', 'by the real length');
  const v1 = await kms.encrypt(Buffer.alloc(1000));
  assert.equal(statusOf(v1), 'OK', 'v1beta1 has no such limit');
});

test('a listener serves the APIs that it is given and no others', async (t) => {
  const { client } = await serve(t, { listener: { apis: ['v1beta1'] } });
  const kms = client();
  assert.equal(statusOf(await kms.version()), 'OK');
  assert.equal(statusOf(await kms.status()), 'UNIMPLEMENTED');
  assert.equal(statusOf(await kms.check('v2.KeyManagementService')), 'NOT_FOUND');
});

test('health: Check, List and Watch tell what the keyring knows', async (t) => {
  const { client, keyring } = await serve(t);
  const kms = client();
  for (const service of ['', 'v1beta1.KeyManagementService', 'v2.KeyManagementService']) {
    assert.deepEqual((await kms.check(service)).response, { status: 'SERVING' });
  }
  assert.equal(statusOf(await kms.check('other')), 'NOT_FOUND');
  const seen: string[] = [];
  const strange: string[] = [];
  const watch = (service: string, into: string[]): void => {
    const stream = kms.health.makeServerStreamRequest(
      '/grpc.health.v1.Health/Watch',
      () => Buffer.concat([Buffer.from([0x0a, service.length]), Buffer.from(service)]),
      (bytes: Buffer) => bytes.toString('hex'),
      {},
    );
    stream.on('data', (message: string) => into.push(message));
    stream.on('error', () => undefined);
    t.after(() => stream.cancel());
  };
  watch('', seen);
  watch('other', strange);
  await pause(100);
  keyring.become('away');
  keyring.changed();
  assert.deepEqual((await kms.check('')).response, { status: 'NOT_SERVING' });
  const list = await kms.call<{ statuses: Record<string, { status: string }> }>(kms.health.List, kms.health, {});
  assert.deepEqual(
    Object.entries(list.response?.statuses ?? {}).map(([name, { status }]) => `${name}=${status}`).sort(),
    ['=NOT_SERVING', 'v1beta1.KeyManagementService=NOT_SERVING', 'v2.KeyManagementService=NOT_SERVING'],
  ); // prettier-ignore
  keyring.become('ready');
  await pause(100);
  assert.deepEqual(seen, ['0801', '0802', '0801']);
  assert.deepEqual(strange, ['0803']);
});

test('every kind of failure reaches the caller with its status and code, and the log once', async (t) => {
  const { client, keyring, log, finished } = await serve(t);
  const kms = client();
  for (const kind of Object.keys(FAILURES) as FailureKind[]) {
    keyring.before = () => {
      throw new KmsError(kind, `trouble with "label" at 100 % of partition é ${kind}`, { ckr: 'CKR_TEST' });
    };
    log.lines.length = 0;
    finished.length = 0;
    const answer = await kms.encrypt(Buffer.from('value'));
    assert.equal(statusOf(answer), FAILURES[kind].status, kind);
    const text = `trouble with "label" at 100 % of partition é ${kind}`;
    assert.equal(answer.error?.details, `${text} [${FAILURES[kind].code}]`);
    const lines = log.lines.filter(({ message }) => message.includes(kind));
    assert.equal(lines.length, 1, kind);
    const level = kind === 'cancelled' ? 'debug' : FAILURES[kind].status === 'INTERNAL' ? 'error' : 'warn';
    assert.equal(lines[0]?.level, level, kind);
    assert.equal(lines[0].fields['kind'], kind);
    assert.equal(lines[0].fields['code'], FAILURES[kind].code);
    assert.equal(lines[0].fields['ckr'], 'CKR_TEST');
    assert.deepEqual(
      finished.map(({ status, code }) => ({ status, code })),
      [{ status: FAILURES[kind].status, code: FAILURES[kind].code }],
    );
  }
});

test('what is no KmsError is INTERNAL, keeps its text out of the answer, and is logged with its cause', async (t) => {
  const { client, keyring, log } = await serve(t);
  const kms = client();
  for (const thrown of [new TypeError('inner text'), 'inner text']) {
    keyring.before = () => {
      throw thrown as Error;
    };
    log.lines.length = 0;
    const answer = await kms.encrypt(Buffer.from('value'));
    assert.equal(statusOf(answer), 'INTERNAL');
    assert.doesNotMatch(answer.error?.details ?? '', /inner text/);
    const line = log.above('debug')[0];
    assert.equal(line?.level, 'error');
    assert.ok(thrown instanceof Error ? line.fields['cause'] === thrown : line.fields['cause'] === 'a thrown string');
  }
});

test('a message that is too long or no Unicode is sent all the same', async (t) => {
  const { client, keyring } = await serve(t);
  const kms = client();
  keyring.before = () => {
    throw new KmsError('token-away', `\ud800${'é'.repeat(5_000)}`);
  };
  const answer = await kms.encrypt(Buffer.from('x'));
  assert.equal(statusOf(answer), 'UNAVAILABLE');
  assert.match(answer.error?.details ?? '', /^\ufffdé+… \[KMS-2001\]$/);
});

test('buffers of values are zeroed when they have been used', async (t) => {
  const { client, keyring } = await serve(t);
  const kms = client();
  const seen: Buffer[] = [];
  const encrypt = keyring.encrypt.bind(keyring);
  keyring.encrypt = (plaintext, call) => {
    seen.push(plaintext);
    return encrypt(plaintext, call);
  };
  const sealed = await kms.encrypt(Buffer.from('a secret value'));
  const opened = await kms.decrypt(sealed.response?.cipher ?? Buffer.alloc(0));
  assert.equal(opened.response?.plain.toString(), 'a secret value');
  assert.deepEqual(seen, [Buffer.alloc(14)]);
  assert.deepEqual(keyring.plaintexts, [Buffer.alloc(14)]);
});

test('the observer is told of every call, and calls are counted', async (t) => {
  const { client, finished, server } = await serve(t, { keyring: new FakeKeyring() });
  const kms = client();
  const uid = 'u'.repeat(200);
  await kms.call(kms.v2.Encrypt, kms.v2, { plaintext: Buffer.alloc(32), uid });
  await kms.decrypt(Buffer.alloc(80));
  await kms.status();
  assert.deepEqual(
    finished.map(({ durationMs, ...rest }) => ({ ...rest, timed: durationMs >= 0 && durationMs < 10_000 })),
    [
      {
        api: 'v2', method: 'Encrypt', listener: 'test', status: 'OK', code: undefined,
        requestBytes: 32, responseBytes: 84, keyId: KEY_ID, uid: 'u'.repeat(128), timed: true,
      },
      {
        api: 'v1beta1', method: 'Decrypt', listener: 'test', status: 'INVALID_ARGUMENT', code: 'KMS-4001',
        requestBytes: 80, responseBytes: 0, keyId: undefined, uid: undefined, timed: true,
      },
      {
        api: 'v2', method: 'Status', listener: 'test', status: 'OK', code: undefined,
        requestBytes: 0, responseBytes: 0, keyId: undefined, uid: undefined, timed: true,
      },
    ],
  ); // prettier-ignore
  const { inFlight, queued, waiting, finished: rows } = server.calls();
  assert.deepEqual({ inFlight, queued, waiting }, { inFlight: 0, queued: 0, waiting: 0 });
  assert.deepEqual(rows.map(({ api, method, status, count }) => `${api} ${method} ${status} ${count}`).sort(), [
    'v1beta1 Decrypt INVALID_ARGUMENT 1',
    'v2 Encrypt OK 1',
    'v2 Status OK 1',
  ]);
});

test('a good call writes nothing above debug, and no value at any level', async (t) => {
  const { client, log } = await serve(t);
  const kms = client();
  await kms.encrypt(Buffer.from('a secret value'));
  assert.deepEqual(log.above('debug'), []);
  assert.doesNotMatch(JSON.stringify(log.lines), /a secret value|YSBzZWNyZXQgdmFsdWU/);
});
