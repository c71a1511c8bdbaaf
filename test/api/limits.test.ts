import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import { status } from '@grpc/grpc-js';
import { KmsError } from '../../src/errors/index.ts';
import { statusOf } from './support/clients.ts';
import { pause, serve, until } from './support/fixture.ts';
import { field, WireClient } from './support/wire.ts';

const value = Buffer.from('value');

/** Lets operations end one by one, in the test's own time. */
function gate(): { wait: () => Promise<void>; open: () => void } {
  const waiting: (() => void)[] = [];
  return {
    wait: () => new Promise((resolve) => void waiting.push(resolve)),
    open: () => waiting.shift()?.(),
  };
}

test('in flight as many as there are places, the next wait in turn, above that the queue is full', async (t) => {
  const { client, keyring, server, log } = await serve(t, { limits: { inFlight: 2, queued: 3 } });
  const kms = client();
  const { wait, open } = gate();
  keyring.before = wait;
  const order: number[] = [];
  const calls = Array.from({ length: 6 }, async (_, index) => {
    const answer = await kms.encrypt(Buffer.alloc(index));
    order.push(index);
    return answer;
  });
  const full = await calls[5];
  assert.ok(full);
  assert.equal(statusOf(full), 'RESOURCE_EXHAUSTED');
  assert.match(full.error?.details ?? '', /limits.queued.*\[KMS-5005\]$/);
  assert.deepEqual(
    { ...server.calls(), finished: undefined },
    { inFlight: 2, queued: 3, waiting: 0, finished: undefined },
  );
  assert.equal(keyring.calls.length, 2);
  for (let index = 0; index < 5; index++) {
    open();
    await until(() => order.length === index + 2);
  }
  assert.deepEqual(order, [5, 0, 1, 2, 3, 4], 'first come, first served');
  assert.deepEqual(
    keyring.calls.map(({ bytes }) => bytes),
    [0, 1, 2, 3, 4],
  );
  assert.equal(log.above('debug').length, 1);
});

test('the time for a call holds whatever hangs, and queueing counts', async (t) => {
  const { client, keyring, server } = await serve(t, { limits: { inFlight: 1, callDeadlineMs: 300 } });
  const kms = client();
  keyring.before = () => new Promise<void>(() => undefined);
  const began = performance.now();
  const [running, queued] = await Promise.all([kms.encrypt(value), kms.encrypt(value)]);
  assert.ok(performance.now() - began < 5_000);
  assert.equal(statusOf(running), 'DEADLINE_EXCEEDED');
  assert.match(running.error?.details ?? '', /300 ms.* before the token answered \[KMS-5006\]$/);
  assert.equal(statusOf(queued), 'DEADLINE_EXCEEDED');
  assert.ok(keyring.calls.every(({ call }) => call.signal.aborted));
  assert.ok((keyring.calls[0]?.call.signal.reason as KmsError).kind === 'deadline');
  const { inFlight, queued: left } = server.calls();
  assert.deepEqual({ inFlight, left }, { inFlight: 0, left: 0 }, 'a hanging token keeps no place');
  keyring.before = () => undefined;
  assert.equal(statusOf(await kms.encrypt(value)), 'OK');
});

test("a client's own deadline counts when it is shorter", async (t) => {
  const { client, keyring, finished } = await serve(t, { limits: { callDeadlineMs: 60_000 } });
  const kms = client();
  let left = 0;
  keyring.before = (call) => {
    left = call.deadline - performance.now();
    return new Promise<void>(() => undefined);
  };
  const answer = await kms.encrypt(value, { deadlineMs: 300 });
  assert.equal(statusOf(answer), 'DEADLINE_EXCEEDED');
  assert.ok(left > 0 && left <= 300, `the keyring knows: ${left} ms left`);
  await until(() => finished.length === 1);
  assert.equal(finished[0]?.status, 'DEADLINE_EXCEEDED');
});

test('a call without a deadline of the client has ours', async (t) => {
  const { client, keyring } = await serve(t, { limits: { callDeadlineMs: 60_000 } });
  let left = 0;
  keyring.before = (call) => {
    left = call.deadline - performance.now();
  };
  await client().encrypt(value);
  assert.ok(left > 50_000 && left <= 60_000, `${left} ms left`);
});

test('a client that gives up frees its place, and the keyring is told', async (t) => {
  const { client, keyring, server, log, finished } = await serve(t, { limits: { inFlight: 1 } });
  const kms = client();
  keyring.before = () => new Promise<void>(() => undefined);
  const running = kms.v1.Encrypt.call(kms.v1, { plain: value }, {}, () => undefined);
  await until(() => keyring.calls.length === 1);
  const queued = kms.v1.Encrypt.call(kms.v1, { plain: value }, {}, () => undefined);
  await until(() => server.calls().queued === 1);
  queued.cancel();
  await until(() => server.calls().queued === 0);
  running.cancel();
  await until(() => server.calls().inFlight === 0);
  assert.equal((keyring.calls[0]?.call.signal.reason as KmsError).kind, 'cancelled');
  assert.equal(keyring.calls.length, 1);
  assert.deepEqual(
    finished.map(({ status }) => status),
    ['CANCELLED', 'CANCELLED'],
  );
  assert.deepEqual(log.above('debug'), []);
});

test('a connection that breaks ends its calls', async (t) => {
  const { path, keyring, server, finished } = await serve(t);
  const broken = new WireClient(path);
  keyring.before = () => new Promise<void>(() => undefined);
  broken.request('/v1beta1.KeyManagementService/Encrypt', field(2, 'value'));
  await until(() => keyring.calls.length === 1);
  broken.socket.destroy();
  await until(() => server.calls().inFlight === 0 && server.listeners()[0]?.connections === 0);
  assert.deepEqual(
    finished.map(({ status }) => status),
    ['CANCELLED'],
  );
  assert.equal((keyring.calls[0]?.call.signal.reason as KmsError).kind, 'cancelled');
});

test('an answer that comes after the end of its call is zeroed', async (t) => {
  const { client, keyring } = await serve(t, { limits: { callDeadlineMs: 200 } });
  const kms = client();
  const sealed = await kms.encrypt(Buffer.from('late secret'));
  const { wait, open } = gate();
  keyring.before = wait;
  const answer = await kms.decrypt(sealed.response?.cipher ?? Buffer.alloc(0));
  assert.equal(statusOf(answer), 'DEADLINE_EXCEEDED');
  open();
  await until(() => keyring.plaintexts.length === 1);
  await pause(10);
  assert.deepEqual(keyring.plaintexts, [Buffer.alloc(11)]);
});

test('a value is not zeroed while the keyring still works on it', async (t) => {
  const { client, keyring } = await serve(t, { limits: { callDeadlineMs: 200 } });
  const kms = client();
  const { wait, open } = gate();
  let seen: Buffer | undefined;
  keyring.encrypt = async (plaintext) => {
    seen = plaintext;
    await wait();
    return { ciphertext: Buffer.from(plaintext), keyId: '' };
  };
  assert.equal(statusOf(await kms.encrypt(Buffer.from('in use'))), 'DEADLINE_EXCEEDED');
  assert.equal(seen?.toString(), 'in use');
  open();
  await pause(10);
  assert.deepEqual(seen, Buffer.alloc(6));
});

test('above the limit the connection that has been idle for longest goes, first those that never had an answer of the HSM', async (t) => {
  const { client, server, log, path: socketPath } = await serve(t, { limits: { connections: 3 } });
  const used = client();
  assert.equal(statusOf(await used.encrypt(value)), 'OK');
  const closed: number[] = [];
  const idle = Array.from({ length: 70 }, (_, index) =>
    connect({ path: socketPath })
      .resume()
      .on('error', () => undefined)
      .on('close', () => closed.push(index)),
  );
  await until(() => closed.length === 68);
  assert.deepEqual(
    closed,
    [...closed].sort((one, other) => one - other),
    'the longest idle one first',
  );
  assert.equal(statusOf(await client().encrypt(value)), 'OK', 'a new one gets in');
  assert.equal(statusOf(await used.encrypt(value)), 'OK');
  assert.equal(server.listeners()[0]?.connections, 3);
  const told = log.above('debug').find(({ message }) => message.includes('limits.connections'));
  assert.equal(told?.level, 'warn');
  for (const socket of idle) socket.destroy();
});

test('above the limit nobody who is at work goes, and the new one is refused', async (t) => {
  const { client, keyring, server } = await serve(t, { limits: { connections: 2 } });
  const { wait, open } = gate();
  keyring.before = wait;
  const answers = [client(), client()].map((kms) => kms.encrypt(value));
  await until(() => keyring.calls.length === 2);
  assert.equal(statusOf(await client().version()), 'UNAVAILABLE');
  assert.equal(server.listeners()[0]?.refused, 1);
  open();
  open();
  for (const answer of await Promise.all(answers)) assert.equal(statusOf(answer), 'OK');
});

test('new limits hold for new calls and new connections', async (t) => {
  const { client, server, listener, limits } = await serve(t, { limits: { valueBytes: 10, messageBytes: 2_000 } });
  const kms = client();
  assert.equal(statusOf(await kms.encrypt(Buffer.alloc(11))), 'RESOURCE_EXHAUSTED');
  await server.reload([listener], { ...limits, valueBytes: 5_000, messageBytes: 10_000 });
  assert.equal(statusOf(await kms.encrypt(Buffer.alloc(11))), 'OK', 'same connection');
  assert.equal(statusOf(await client().encrypt(Buffer.alloc(5_000))), 'OK', 'new connection');
});

test('many small messages and pings do not make a client go away', async (t) => {
  const { client, server } = await serve(t);
  const kms = client();
  for (let round = 0; round < 20; round++) {
    const answers = await Promise.all(Array.from({ length: 50 }, () => kms.encrypt(value)));
    assert.ok(answers.every((answer) => statusOf(answer) === 'OK'));
  }
  assert.equal(server.listeners()[0]?.connections, 1);
  assert.equal(server.calls().finished.find(({ method }) => method === 'Encrypt')?.count, 1_000);
});

test('grpc numbers are those of the names', async () => {
  const { STATUS_NUMBERS } = await import('../../src/api/status.ts');
  for (const [name, number] of Object.entries(STATUS_NUMBERS)) assert.equal(status[number], name);
});
