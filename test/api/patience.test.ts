import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KmsError } from '../../src/errors/index.ts';
import { statusOf } from './support/clients.ts';
import { pause, serve, until } from './support/fixture.ts';
import { FakeKeyring, KEY_ID } from './support/keyring.ts';

const value = Buffer.from('value');
const PATIENT = { listener: { patienceMs: 300_000 } };

function away(keyring: FakeKeyring): FakeKeyring {
  keyring.failWhileAway();
  keyring.availability = 'away';
  return keyring;
}

test('a call that comes while the token is away gets its answer when it is back', async (t) => {
  const { client, keyring, server } = await serve(t, { ...PATIENT, keyring: away(new FakeKeyring()) });
  const kms = client();
  const answers = [kms.encrypt(value), kms.encrypt(value)];
  await until(() => server.calls().waiting === 2);
  assert.equal(server.calls().inFlight, 0, 'who waits holds no place');
  assert.equal(keyring.calls.length, 0);
  keyring.become('ready');
  for (const answer of await Promise.all(answers)) assert.equal(statusOf(answer), 'OK');
  assert.equal(server.calls().waiting, 0);
});

test('a decrypt too', async (t) => {
  const keyring = new FakeKeyring();
  const { client, server } = await serve(t, { ...PATIENT, keyring });
  const sealed = await client().encrypt(value);
  away(keyring);
  const opened = client().decrypt(sealed.response?.cipher ?? Buffer.alloc(0));
  await until(() => server.calls().waiting === 1);
  keyring.become('ready');
  assert.equal((await opened).response?.plain.toString(), 'value');
});

test('a keyring that keeps data keys is asked even while the token is away', async (t) => {
  const { client, keyring, server } = await serve(t, { ...PATIENT, keyring: new FakeKeyring() });
  keyring.availability = 'away';
  keyring.servesCached = true;
  assert.equal(statusOf(await client().encrypt(value)), 'OK');
  away(keyring);
  const answer = client().encrypt(value);
  await until(() => server.calls().waiting === 1);
  keyring.become('ready');
  assert.equal(statusOf(await answer), 'OK');
});

test('a connection that was served before fails at once, another one waits', async (t) => {
  const { client, keyring, server } = await serve(t, { ...PATIENT, keyring: new FakeKeyring() });
  const served = client();
  assert.equal(statusOf(await served.encrypt(value)), 'OK');
  const fresh = client();
  assert.equal(statusOf(await fresh.version()), 'OK', 'needs no HSM: patience stays');
  assert.equal(statusOf(await fresh.decrypt(Buffer.alloc(80))), 'INVALID_ARGUMENT', 'failed: patience stays');
  away(keyring);
  assert.equal(statusOf(await served.encrypt(value)), 'UNAVAILABLE');
  const waiting = fresh.encrypt(value);
  await until(() => server.calls().waiting === 1);
  assert.equal(statusOf(await served.encrypt(value)), 'UNAVAILABLE');
  keyring.become('ready');
  assert.equal(statusOf(await waiting), 'OK');
  away(keyring);
  assert.equal(statusOf(await fresh.encrypt(value)), 'UNAVAILABLE', 'it has been served now');
});

test('Version, Status and health never wait', async (t) => {
  const { client, keyring } = await serve(t, { ...PATIENT, keyring: away(new FakeKeyring()) });
  const kms = client();
  assert.equal(statusOf(await kms.version()), 'OK');
  assert.equal((await kms.status()).response?.healthz, 'partition test: the token is away');
  assert.deepEqual((await kms.check('')).response, { status: 'NOT_SERVING' });
  assert.equal(keyring.calls.length, 0);
});

test('what needs no HSM to be refused is refused at once', async (t) => {
  const keyring = new FakeKeyring();
  const { client, server } = await serve(t, { ...PATIENT, keyring: away(keyring), limits: { valueBytes: 10 } });
  const kms = client();
  for (const size of [0, 80, 144]) {
    assert.equal(statusOf(await kms.decrypt(Buffer.alloc(size, 7))), 'INVALID_ARGUMENT');
  }
  assert.equal(statusOf(await kms.encrypt(Buffer.alloc(11))), 'RESOURCE_EXHAUSTED');
  const wrong = await kms.call(kms.v2.Decrypt, kms.v2, { ciphertext: Buffer.alloc(80), key_id: KEY_ID });
  assert.equal(statusOf(wrong), 'INVALID_ARGUMENT');
  assert.equal(server.calls().waiting, 0);
});

test('patience over: the failure', async (t) => {
  const { client, keyring } = await serve(t, { listener: { patienceMs: 400 }, keyring: away(new FakeKeyring()) });
  const kms = client();
  const untried = await kms.encrypt(value);
  assert.equal(statusOf(untried), 'UNAVAILABLE');
  assert.equal(untried.error?.details, 'partition test: the token is away [KMS-2001]');
  const calls = keyring.calls.length;
  const later = await kms.encrypt(value);
  assert.equal(later.error?.details, 'partition test: token away (CKR_TEST) [KMS-2001]', 'tried, and failed at once');
  assert.equal(keyring.calls.length, calls + 1);
});

test('patience over, but the token is there: one last try', async (t) => {
  const keyring = away(new FakeKeyring());
  const { client, server } = await serve(t, { listener: { patienceMs: 400 }, keyring });
  const answer = client().encrypt(value);
  await until(() => server.calls().waiting === 1);
  keyring.availability = 'ready';
  assert.equal(statusOf(await answer), 'OK');
});

test('no patience: tried, and failed at once', async (t) => {
  const { client } = await serve(t, { keyring: away(new FakeKeyring()) });
  assert.equal((await client().encrypt(value)).error?.details, 'partition test: token away (CKR_TEST) [KMS-2001]');
});

test('an attempt that fails while the token looks ready is tried again', async (t) => {
  const { client, keyring, server } = await serve(t, PATIENT);
  let attempts = 0;
  keyring.before = () => {
    attempts += 1;
    if (attempts < 3) throw new KmsError('token-away', 'lost in the middle');
  };
  const answer = client().encrypt(value);
  await until(() => server.calls().waiting === 1);
  keyring.changed();
  assert.equal(statusOf(await answer), 'OK');
  assert.equal(attempts, 3);
});

test('a listed key that is not on the token is waited for', async (t) => {
  const { client, keyring } = await serve(t, PATIENT);
  let made = false;
  keyring.before = () => {
    if (!made) throw new KmsError('key-missing', 'no key "credhub" yet');
  };
  const answer = client().encrypt(value);
  await until(() => keyring.calls.length >= 2);
  made = true;
  assert.equal(statusOf(await answer), 'OK', 'found without any word of the keyring');
});

test('what waiting cannot mend fails at once', async (t) => {
  const { client, keyring, server } = await serve(t, PATIENT);
  const kms = client();
  for (const kind of ['pin-refused', 'key-ambiguous', 'key-not-listed', 'not-authentic', 'internal'] as const) {
    keyring.before = () => {
      throw new KmsError(kind, 'no');
    };
    keyring.availability = kind === 'pin-refused' ? 'refused' : 'ready';
    assert.match((await kms.encrypt(value)).error?.details ?? '', /^no \[KMS-/);
  }
  assert.equal(server.calls().waiting, 0);
});

test('a PIN that is refused while a call waits ends the wait', async (t) => {
  const { client, keyring, server } = await serve(t, { ...PATIENT, keyring: away(new FakeKeyring()) });
  const answer = client().encrypt(value);
  await until(() => server.calls().waiting === 1);
  keyring.before = () => {
    throw new KmsError('pin-refused', 'the PIN was refused');
  };
  keyring.become('refused');
  assert.equal(statusOf(await answer), 'FAILED_PRECONDITION');
});

test("the call's own time begins when the token is back", async (t) => {
  const { client, keyring, server } = await serve(t, {
    ...PATIENT,
    keyring: away(new FakeKeyring()),
    limits: { callDeadlineMs: 400 },
  });
  const answer = client().encrypt(value);
  await until(() => server.calls().waiting === 1);
  await pause(600);
  let left = 0;
  keyring.before = (call) => {
    left = call.deadline - performance.now();
  };
  keyring.become('ready');
  assert.equal(statusOf(await answer), 'OK');
  assert.ok(left > 200 && left <= 400, `${left} ms`);
});

test('a deadline that passes because the token goes away is waited out as well', async (t) => {
  const { client, keyring, server } = await serve(t, { ...PATIENT, limits: { callDeadlineMs: 200 } });
  keyring.before = () => new Promise<void>(() => undefined);
  const answer = client().encrypt(value);
  await until(() => keyring.calls.length === 1);
  keyring.availability = 'starting';
  await until(() => server.calls().waiting === 1);
  assert.ok(keyring.calls[0]?.call.signal.aborted);
  keyring.before = () => undefined;
  keyring.become('ready');
  assert.equal(statusOf(await answer), 'OK');
  assert.equal(keyring.calls[1]?.call.signal.aborted, false);
});

test('a deadline that passes although the token is ready is a deadline', async (t) => {
  const { client, keyring } = await serve(t, { ...PATIENT, limits: { callDeadlineMs: 200 } });
  keyring.before = () => new Promise<void>(() => undefined);
  assert.equal(statusOf(await client().encrypt(value)), 'DEADLINE_EXCEEDED');
});

test("the client's own deadline and its giving up end a wait", async (t) => {
  const { client, server, finished } = await serve(t, { ...PATIENT, keyring: away(new FakeKeyring()) });
  const kms = client();
  assert.equal(statusOf(await kms.encrypt(value, { deadlineMs: 300 })), 'DEADLINE_EXCEEDED');
  await until(() => finished.length === 1);
  const call = kms.v1.Encrypt.call(kms.v1, { plain: value }, {}, () => undefined);
  await until(() => server.calls().waiting === 1);
  call.cancel();
  await until(() => server.calls().waiting === 0 && finished.length === 2);
  assert.deepEqual(
    finished.map(({ status }) => status),
    ['DEADLINE_EXCEEDED', 'CANCELLED'],
  );
});

test('those who wait have a queue of their own, with the limit of the other', async (t) => {
  const { client, keyring, server } = await serve(t, {
    ...PATIENT,
    keyring: away(new FakeKeyring()),
    limits: { inFlight: 1, queued: 3 },
  });
  const kms = client();
  const waiting = Array.from({ length: 3 }, () => kms.encrypt(value));
  await until(() => server.calls().waiting === 3);
  const full = await kms.encrypt(value);
  assert.equal(statusOf(full), 'RESOURCE_EXHAUSTED');
  assert.match(full.error?.details ?? '', /3 are waiting already.*\[KMS-5005\]$/);
  keyring.become('ready');
  for (const answer of await Promise.all(waiting)) assert.equal(statusOf(answer), 'OK');
});

test('all who wait are served even where not all find a place at once', async (t) => {
  const { client, keyring, server } = await serve(t, {
    ...PATIENT,
    keyring: away(new FakeKeyring()),
    limits: { inFlight: 1, queued: 4 },
  });
  const waiting = Array.from({ length: 4 }, () => client().encrypt(value));
  await until(() => server.calls().waiting === 4);
  await server.reload([], { ...(await serve(t)).limits, inFlight: 1, queued: 2 });
  keyring.before = () => pause(20);
  keyring.become('ready');
  for (const answer of await Promise.all(waiting)) assert.equal(statusOf(answer), 'OK');
});

test('shutting down ends the wait', async (t) => {
  const { client, server } = await serve(t, { ...PATIENT, keyring: away(new FakeKeyring()) });
  const answer = client().encrypt(value);
  await until(() => server.calls().waiting === 1);
  const ended = server.shutdown(5_000);
  assert.equal(statusOf(await answer), 'UNAVAILABLE');
  assert.match((await answer).error?.details ?? '', /shutting down.*\[KMS-2005\]$/);
  await ended;
});

test('patience does not run down while everything is stopped', async (t) => {
  const keyring = away(new FakeKeyring());
  const { client, server } = await serve(t, { listener: { patienceMs: 2_000 }, keyring });
  const answer = client().encrypt(value);
  await until(() => server.calls().waiting === 1);
  // Nothing runs in this process meanwhile, as with SIGSTOP or in a suspended VM.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 4_000);
  await pause(100);
  assert.equal(server.calls().waiting, 1);
  keyring.become('ready');
  assert.equal(statusOf(await answer), 'OK');
});
