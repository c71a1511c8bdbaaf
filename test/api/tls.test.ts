import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { test, type TestContext } from 'node:test';
import tls from 'node:tls';
import type { ListenerConfig } from '../../src/config/types.ts';
import { Authority, HOST } from './support/certificates.ts';
import { statusOf } from './support/clients.ts';
import { type Fixture, serve, temporaryDirectory, until } from './support/fixture.ts';

const value = Buffer.from('value');

/** The head of a ClientHello of 512 bytes, whose rest does not come. */
const HALF_A_HELLO = Buffer.from('1603010200010001fc0303', 'hex');

interface TlsFixture extends Fixture {
  readonly authority: Authority;
}

async function serveTls(t: TestContext, listener: Partial<ListenerConfig> = {}): Promise<TlsFixture> {
  const directory = temporaryDirectory(t);
  const authority = new Authority(directory);
  const fixture = await serve(t, { directory, listener: { tls: authority.issue('server'), ...listener } });
  return { ...fixture, authority };
}

function handshake(path: string, options: tls.ConnectionOptions): Promise<tls.TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ path, servername: HOST, ALPNProtocols: ['h2'], ...options });
    socket.on('secureConnect', () => resolve(socket));
    socket.on('error', reject);
  });
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.on('error', () => undefined);
    if (socket.destroyed) resolve();
    else socket.on('close', () => resolve());
    socket.resume();
  });
}

test('TLS: served to who trusts the CA, with the host name that the certificate has', async (t) => {
  const { client, authority, server } = await serveTls(t);
  const sealed = await client(authority.ca).encrypt(value);
  assert.equal(statusOf(sealed), 'OK');
  const report = server.listeners()[0];
  assert.equal(report?.tls, true);
  assert.match(report.certificateExpires ?? '', /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
});

test('TLS: refused by who does not trust the CA, and by who does not speak TLS', async (t) => {
  const { client, authority, log } = await serveTls(t);
  const stranger = new Authority(temporaryDirectory(t));
  assert.equal(statusOf(await client(stranger.ca).version()), 'UNAVAILABLE');
  assert.equal(statusOf(await client().encrypt(value)), 'UNAVAILABLE');
  assert.equal(statusOf(await client(authority.ca).encrypt(value)), 'OK');
  await until(() => log.above('debug').some(({ message }) => message.startsWith('TLS handshake with a client failed')));
});

test('TLS: version 1.2 and newer, ALPN h2', async (t) => {
  const { path, authority, server, log } = await serveTls(t);
  const { ca } = authority;
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const socket = await handshake(path, { ca, minVersion: version, maxVersion: version });
    assert.equal(socket.getProtocol(), version);
    assert.equal(socket.alpnProtocol, 'h2');
    socket.destroy();
  }
  const old = { ca, minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
  await assert.rejects(handshake(path, old));
  await assert.rejects(handshake(path, { ca, ALPNProtocols: ['http/1.1'] }));
  const silent = await handshake(path, { ca, ALPNProtocols: [] });
  await closed(silent);
  assert.ok(log.lines.some(({ message }) => message.includes('ALPN h2')));
  await until(() => server.listeners()[0]?.connections === 0);
});

test('TLS: a new certificate for new connections, while a call is in flight on an old one', async (t) => {
  const { client, authority, keyring, server, listener, limits, path } = await serveTls(t);
  const kms = client(authority.ca);
  assert.equal(statusOf(await kms.encrypt(value)), 'OK');
  let goOn: () => void = () => undefined;
  keyring.before = () => new Promise((resolve) => (goOn = resolve));
  const inFlight = kms.encrypt(value);
  await until(() => server.calls().inFlight === 1);
  const subject = async (): Promise<string | undefined> => {
    const socket = await handshake(path, { ca: authority.ca });
    const { CN } = socket.getPeerCertificate().subject;
    socket.destroy();
    return String(CN);
  };
  assert.equal(await subject(), 'server');
  const before = server.listeners()[0]?.certificateExpires;
  await server.reload([{ ...listener, tls: authority.issue('renewed', 300) }], limits);
  assert.equal(await subject(), 'renewed');
  assert.notEqual(server.listeners()[0]?.certificateExpires, before);
  goOn();
  keyring.before = () => undefined;
  assert.equal(statusOf(await inFlight), 'OK');
  assert.equal(statusOf(await kms.encrypt(value)), 'OK', 'the old connection goes on');
  assert.equal(statusOf(await client(authority.ca).encrypt(value)), 'OK');
});

test('TLS: a client that resumes its session gets the new certificate too', async (t) => {
  const { authority, server, listener, limits, path } = await serveTls(t);
  const { ca } = authority;
  const options = { ca, maxVersion: 'TLSv1.2' } as const;
  const first = await handshake(path, options);
  const session = first.getSession();
  first.destroy();
  const again = await handshake(path, { ...options, ...(session === undefined ? {} : { session }) });
  assert.ok(again.isSessionReused());
  again.destroy();
  await server.reload([{ ...listener, tls: authority.issue('renewed') }], limits);
  const renewed = await handshake(path, { ...options, ...(session === undefined ? {} : { session }) });
  assert.equal(renewed.isSessionReused(), false);
  renewed.destroy();
});

test('TLS: a certificate that cannot be used changes nothing', async (t) => {
  const { client, authority, server, listener, limits } = await serveTls(t);
  const other = authority.issue('other');
  const files = listener.tls ?? other;
  const mixed = { ...files, privateKeyFile: other.privateKeyFile };
  const tighter = { ...limits, valueBytes: 1 };
  await assert.rejects(server.reload([{ ...listener, tls: mixed }], tighter), /server\.pem .*other\.key.*together/);
  const missing = { ...files, certificateFile: '/nowhere/x.pem' };
  await assert.rejects(server.reload([{ ...listener, tls: missing }], tighter), /certificate \/nowhere\/x\.pem/);
  writeFileSync(files.certificateFile, 'garbage');
  await assert.rejects(server.reload([listener], tighter), /server\.pem/);
  assert.equal(statusOf(await client(authority.ca).encrypt(value)), 'OK', 'certificate and limits are the old ones');
});

test('TLS: garbage and half a handshake harm nobody, and are closed in the end', async (t) => {
  const { client, path, authority, server } = await serveTls(t);
  const kms = client(authority.ca);
  assert.equal(statusOf(await kms.encrypt(value)), 'OK');
  const garbage = Array.from({ length: 10 }, (_, index) => {
    const socket = connect({ path });
    socket.write(Buffer.alloc(1 + index * 1_000, 'garbage'));
    return closed(socket);
  });
  const halves = Array.from({ length: 10 }, () => {
    const socket = connect({ path });
    socket.write(HALF_A_HELLO);
    return socket;
  });
  await Promise.all(garbage.slice(1));
  await until(() => (server.listeners()[0]?.connections ?? 0) >= 11);
  assert.equal(statusOf(await kms.encrypt(value)), 'OK');
  assert.equal(statusOf(await client(authority.ca).encrypt(value)), 'OK');
  const ended = halves.map(closed);
  await server.shutdown(8_000);
  await Promise.all(ended);
});

test('a handshake that is not finished, or not a byte, in 10 s: closed', async (t) => {
  const [secure, plain] = [await serveTls(t), await serve(t)];
  const half = connect({ path: secure.path });
  half.write(HALF_A_HELLO);
  const silent = [connect({ path: secure.path }), connect({ path: plain.path })];
  const kms = plain.client();
  assert.equal(statusOf(await kms.version()), 'OK');
  await Promise.all([half, ...silent].map(closed));
  await until(() => secure.server.listeners()[0]?.connections === 0);
  await until(() => plain.server.listeners()[0]?.connections === 1);
  assert.equal(statusOf(await kms.version()), 'OK', 'who has spoken may be idle');
});

test('TLS: the private key is not kept in a buffer of ours', async (t) => {
  const { authority } = await serveTls(t);
  const { loadCertificate, TlsGate } = await import('../../src/api/tls.ts');
  const files = authority.issue('another');
  const certificate = await loadCertificate(files);
  assert.deepEqual(certificate.privateKey, readFileSync(files.privateKeyFile));
  const silent = { error: () => undefined, warn: () => undefined, info: () => undefined, debug: () => undefined };
  new TlsGate(certificate, 'test', silent, () => undefined);
  assert.ok(certificate.privateKey.every((byte) => byte === 0));
});
