import assert from 'node:assert/strict';
import { existsSync, lstatSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { type ApiServer, createApiServer, listenersNeedingRestart } from '../../src/api/index.ts';
import { SocketError } from '../../src/socket/index.ts';
import { Authority } from './support/certificates.ts';
import { KmsClient, statusOf } from './support/clients.ts';
import { LIMITS, listenerAt, pause, serve, temporaryDirectory, until } from './support/fixture.ts';
import { FakeKeyring } from './support/keyring.ts';
import { KeptLog } from './support/log.ts';
import { field, WireClient } from './support/wire.ts';

const value = Buffer.from('value');

test('shutdown: calls in flight and queued end well, new ones are refused, the name goes', async (t) => {
  const { client, keyring, server, path: socketPath } = await serve(t, { limits: { inFlight: 1 } });
  const kms = client();
  let goOn: (() => void)[] = [];
  keyring.before = () => new Promise((resolve) => goOn.push(resolve));
  const running = kms.encrypt(value);
  const queued = kms.encrypt(value);
  await until(() => server.calls().queued === 1);
  const ended = server.shutdown(10_000);
  await until(() => !existsSync(socketPath));
  assert.equal(statusOf(await client().version()), 'UNAVAILABLE');
  // What it opens before it has read of the end is served.
  const early: ReturnType<typeof kms.encrypt>[] = [];
  let refused: string | undefined;
  while (refused === undefined) {
    const call = kms.encrypt(value);
    refused = await Promise.race([call.then(statusOf), pause(20).then(() => undefined)]);
    if (refused === undefined) early.push(call);
  }
  assert.equal(refused, 'UNAVAILABLE');
  for (const answer of [running, queued, ...early]) {
    await until(() => goOn.length > 0);
    for (const open of goOn.splice(0)) open();
    assert.equal(statusOf(await answer), 'OK');
  }
  goOn = [];
  await ended;
  assert.equal(server.listeners()[0]?.connections, 0);
  assert.equal(keyring.listeners, 0, 'nothing hangs on the keyring any more');
});

test('shutdown: idle connections are told to go, and go', async (t) => {
  const { path: socketPath, server } = await serve(t);
  const client = new WireClient(socketPath);
  assert.equal((await client.call('/v1beta1.KeyManagementService/Encrypt', field(2, 'x'))).status, '0');
  const silent = connect({ path: socketPath });
  silent.on('error', () => undefined);
  await until(() => server.listeners()[0]?.connections === 2);
  const closed = new Promise((resolve) => client.session.on('close', resolve));
  const began = performance.now();
  await server.shutdown(60_000);
  await closed;
  assert.ok(client.goaways.length > 0 && client.goaways.every((code) => code === 0));
  assert.ok(performance.now() - began < 9_000, 'it waits neither for its limit nor for who is silent');
});

test('shutdown: what hangs is told so and ended within the limit', async (t) => {
  const { client, keyring, server } = await serve(t);
  const kms = client();
  keyring.before = () => new Promise<void>(() => undefined);
  const answer = kms.encrypt(value);
  await until(() => server.calls().inFlight === 1);
  const began = performance.now();
  await server.shutdown(1_000);
  const took = performance.now() - began;
  assert.ok(took < 1_500, `${took} ms: the call would never end by itself`);
  assert.equal(statusOf(await answer), 'UNAVAILABLE');
  assert.match((await answer).error?.details ?? '', /\[KMS-2005\]$/);
  assert.ok(keyring.calls[0]?.call.signal.aborted);
});

test('shutdown: a second one waits for the first, and one that was never opened ends at once', async () => {
  const options = { limits: LIMITS, keyring: new FakeKeyring(), log: new KeptLog(), version: '1.0.0' };
  const server = createApiServer({ ...options, listeners: [listenerAt('/nowhere/kms.sock')] });
  await Promise.all([server.shutdown(10_000), server.shutdown(10_000)]);
});

test('open: all listeners or none', async (t) => {
  const directory = temporaryDirectory(t);
  const at = (name: string): string => path.join(directory, name);
  const keyring = new FakeKeyring();
  const options = { limits: LIMITS, keyring, log: new KeptLog(), version: '1.0.0' };
  const good = listenerAt(at('a.sock'), { name: 'a' });
  for (const bad of [
    listenerAt(at('missing/b.sock'), { name: 'b' }),
    listenerAt(at('a.sock'), { name: 'b' }),
    listenerAt(at('b.sock'), { name: 'b', tls: { certificateFile: at('no.pem'), privateKeyFile: at('no.key') } }),
  ]) {
    const server = createApiServer({ ...options, listeners: [good, bad] });
    await assert.rejects(server.open());
    assert.equal(existsSync(at('a.sock')), false);
    assert.equal(keyring.listeners, 0);
  }
});

test('several listeners, path and abstract, with and without TLS', async (t) => {
  const directory = temporaryDirectory(t);
  const authority = new Authority(directory);
  const name = `kms-plugin-test-${process.pid}`;
  const listeners = [
    listenerAt(path.join(directory, 'tls.sock'), { name: 'tls', tls: authority.issue('server'), apis: ['v1beta1'] }),
    listenerAt(path.join(directory, 'plain.sock'), { name: 'plain', mode: 0o660 }),
    listenerAt('', { name: 'abstract', endpoint: { kind: 'abstract', name }, allowUnprotected: true }),
  ];
  const server = createApiServer({
    listeners,
    limits: LIMITS,
    keyring: new FakeKeyring(),
    log: new KeptLog(),
    version: '1.0.0',
  });
  await server.open();
  const clients = [
    new KmsClient(path.join(directory, 'tls.sock'), authority.ca),
    new KmsClient(path.join(directory, 'plain.sock')),
  ];
  t.after(async () => {
    for (const client of clients) client.close();
    await server.shutdown(2_000);
  });
  for (const client of clients) assert.equal(statusOf(await client.encrypt(value)), 'OK');
  const wire = new WireClient(`\0${name}`);
  assert.equal((await wire.call('/v2.KeyManagementService/Encrypt', field(1, 'x'))).status, '0');
  assert.deepEqual(
    server.listeners().map(({ certificateExpires, kubernetes, ...report }) => ({
      ...report,
      certificateExpires: certificateExpires !== undefined,
      kubernetes: kubernetes !== undefined,
    })),
    [
      {
        name: 'tls', endpoint: path.join(directory, 'tls.sock'), apis: ['v1beta1'], tls: true, connections: 1, refused: 0,
        certificateExpires: true, kubernetes: false,
      },
      {
        name: 'plain', endpoint: path.join(directory, 'plain.sock'), apis: ['v1beta1', 'v2'], tls: false,
        connections: 1, refused: 0, certificateExpires: false, kubernetes: true,
      },
      {
        name: 'abstract', endpoint: `unix:///@${name}`, apis: ['v1beta1', 'v2'], tls: false, connections: 1, refused: 0,
        certificateExpires: false, kubernetes: true,
      },
    ],
  ); // prettier-ignore
  assert.equal(lstatSync(path.join(directory, 'plain.sock')).mode & 0o777, 0o660);
  wire.session.destroy();
});

test('two servers at once, many times: exactly one serves', async (t) => {
  const directory = temporaryDirectory(t);
  const socketPath = path.join(directory, 'kms.sock');
  for (let round = 0; round < 25; round++) {
    const servers = [0, 1].map(() =>
      createApiServer({
        listeners: [listenerAt(socketPath)],
        limits: LIMITS,
        keyring: new FakeKeyring(),
        log: new KeptLog(),
        version: '1.0.0',
      }),
    );
    const results = await Promise.allSettled(servers.map((server) => server.open()));
    const winners: ApiServer[] = servers.filter((_, index) => results[index]?.status === 'fulfilled');
    assert.equal(winners.length, 1, `round ${round}`);
    const lost = results.find((result) => result.status === 'rejected');
    assert.ok(lost?.reason instanceof SocketError && lost.reason.trouble === 'in-use');
    const client = new KmsClient(socketPath);
    assert.equal(statusOf(await client.encrypt(value)), 'OK');
    client.close();
    await winners[0]?.shutdown(2_000);
    assert.equal(existsSync(socketPath), false);
  }
});

test('bytes that are no HTTP/2 harm nobody', async (t) => {
  const { client, path: socketPath, server } = await serve(t);
  const kms = client();
  assert.equal(statusOf(await kms.encrypt(value)), 'OK');
  const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  const frames = ['', 'ffffffffffffffffffff', '000000040000000000000001', '00000801000000000100000000'];
  const garbage = [
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    Buffer.alloc(100_000, 0xff),
    ...frames.map((frame) => Buffer.concat([preface, Buffer.from(frame, 'hex')])),
  ];
  const sockets = garbage.map((bytes) => {
    const socket = connect({ path: socketPath });
    socket.on('error', () => undefined);
    socket.end(bytes);
    return socket;
  });
  await until(() => server.listeners()[0]?.connections === 1);
  assert.equal(statusOf(await kms.encrypt(value)), 'OK');
  for (const socket of sockets) socket.destroy();
});

test('200 connections opened and closed leave nothing', async (t) => {
  const directory = temporaryDirectory(t);
  const authority = new Authority(directory);
  const { path: socketPath, server, keyring } = await serve(t, { directory, listener: { tls: authority.issue('s') } });
  const handles = (): number => process.getActiveResourcesInfo().length;
  const round = async (): Promise<void> => {
    const clients = Array.from({ length: 20 }, () => new KmsClient(socketPath, authority.ca));
    for (const answer of await Promise.all(clients.map((client) => client.encrypt(value)))) {
      assert.equal(statusOf(answer), 'OK');
    }
    for (const client of clients) client.close();
    await until(() => server.listeners()[0]?.connections === 0);
  };
  await round();
  await pause(50);
  const before = handles();
  const listeners = keyring.listeners;
  for (let count = 0; count < 10; count++) await round();
  await pause(50);
  assert.ok(handles() <= before + 2, `${handles()} handles now, ${before} before`);
  assert.equal(keyring.listeners, listeners);
});

test('what needs a restart is named', () => {
  const before = [listenerAt('/a/x.sock', { name: 'x' }), listenerAt('/a/y.sock', { name: 'y' })];
  assert.deepEqual(listenersNeedingRestart(before, before), []);
  const tls = { certificateFile: 'c', privateKeyFile: 'k' };
  const after = [
    listenerAt('/b/x.sock', { name: 'x', mode: 0o660, tls, patienceMs: 7, apis: ['v2'] }),
    listenerAt('/a/z.sock', { name: 'z' }),
  ];
  assert.deepEqual(listenersNeedingRestart(before, after), [
    'listener z is new',
    'endpoint of listener x',
    'mode of listener x',
    'TLS or not of listener x',
    'listener y is gone',
  ]);
});

test('reload takes patience and APIs for new connections', async (t) => {
  const { client, server, listener, limits } = await serve(t, { listener: { apis: ['v1beta1'] } });
  const old = client();
  assert.equal(statusOf(await old.status()), 'UNIMPLEMENTED');
  await server.reload([{ ...listener, apis: ['v1beta1', 'v2'] }], limits);
  assert.equal(statusOf(await old.status()), 'UNIMPLEMENTED');
  assert.equal(statusOf(await client().status()), 'OK');
});
