/** Who connects must begin as a gRPC client does within 10 s; who has begun may be idle for ever. In real time. */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import tls from 'node:tls';
import { Authority, HOST } from './support/certificates.ts';
import { statusOf } from './support/clients.ts';
import { pause, serve, temporaryDirectory, until } from './support/fixture.ts';
import { WireClient } from './support/wire.ts';

const LIMIT_MS = 10_000;

/** RFC 9113, 3.4: the preface, and the head of an empty SETTINGS frame. */
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const SETTINGS = Buffer.from('000000040000000000', 'hex');

/** The head of a ClientHello of 512 bytes, whose rest does not come. */
const HALF_A_HELLO = Buffer.from('1603010200010001fc0303', 'hex');

function beginAt(path: string, bytes: Buffer): Socket {
  const socket = connect({ path });
  socket.write(bytes);
  return socket;
}

/** After a whole TLS handshake. */
function beginSecurely(path: string, ca: Buffer, bytes: Buffer): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ path, ca, servername: HOST, ALPNProtocols: ['h2'] }, () => {
      socket.write(bytes);
      resolve(socket);
    });
    socket.on('error', reject);
  });
}

/** Resolves with how many milliseconds after `began` the server closed. */
function closedAfter(socket: Socket, began: number): Promise<number> {
  return new Promise((resolve) => {
    socket.on('error', () => undefined);
    socket.on('close', () => resolve(performance.now() - began));
    socket.resume();
  });
}

test('who does not begin in 10 s is closed, whatever it sent; who has begun may be silent for longer', async (t) => {
  const directory = temporaryDirectory(t);
  const authority = new Authority(directory);
  const secure = await serve(t, { directory, listener: { tls: authority.issue('server') } });
  const plain = await serve(t);

  const clients = [secure.client(authority.ca), plain.client()];
  for (const client of clients) assert.equal(statusOf(await client.version()), 'OK');
  // Connected, and never a call: kube-apiserver and CredHub may do that.
  const mute = new WireClient(plain.path);
  const begun = [
    beginAt(plain.path, Buffer.concat([PREFACE, SETTINGS])),
    await beginSecurely(secure.path, authority.ca, Buffer.concat([PREFACE, SETTINGS])),
  ];
  for (const socket of begun) socket.resume();

  const began = performance.now();
  const pieces = [Buffer.alloc(0), PREFACE.subarray(0, 1), PREFACE, Buffer.concat([PREFACE, SETTINGS.subarray(0, 8)])];
  const silent = [
    ...pieces.map((bytes) => beginAt(plain.path, bytes)),
    ...(await Promise.all(pieces.map((bytes) => beginSecurely(secure.path, authority.ca, bytes)))),
    beginAt(secure.path, Buffer.alloc(0)),
    beginAt(secure.path, HALF_A_HELLO.subarray(0, 1)),
    beginAt(secure.path, HALF_A_HELLO),
  ];
  const closed = Promise.all(silent.map((socket) => closedAfter(socket, began)));
  await until(() => plain.server.listeners()[0]?.connections === 3 + pieces.length);
  for (const milliseconds of await closed) assert.ok(milliseconds >= LIMIT_MS - 100, `closed after ${milliseconds} ms`);

  await pause(500);
  assert.equal(plain.server.listeners()[0]?.connections, 3);
  assert.equal(secure.server.listeners()[0]?.connections, 2);
  assert.ok(begun.every((socket) => !socket.destroyed));
  await mute.ping();
  for (const client of clients) assert.equal(statusOf(await client.encrypt(Buffer.from('value'))), 'OK');
  assert.equal(plain.server.listeners()[0]?.connections, 3, 'on the connection that was idle');
  const lines = plain.log.above('debug').map(({ message }) => message);
  assert.equal(lines.filter((line) => line.includes('not begun HTTP/2 within 10 s')).length, pieces.length);
  for (const socket of begun) socket.destroy();
  mute.session.destroy();
});
