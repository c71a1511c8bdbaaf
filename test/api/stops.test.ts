/**
 * The end of the program under load: whatever a client opened before it had read of it is answered. The client speaks frames
 * (RFC 9113, 4 and 6), since a library hides which of its calls left it: it has sent each before it read GOAWAY.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import path from 'node:path';
import { test } from 'node:test';
import tls from 'node:tls';
import { createApiServer, type FinishedCall } from '../../src/api/index.ts';
import { Authority, HOST } from './support/certificates.ts';
import { LIMITS, listenerAt, pause, temporaryDirectory, until } from './support/fixture.ts';
import { FakeKeyring } from './support/keyring.ts';
import { KeptLog } from './support/log.ts';
import { field } from './support/wire.ts';

const STOPS = 200;
/** A slow machine makes fewer, in so many milliseconds. */
const ENOUGH_MS = 30_000;
const AT_ONCE = 4;
const CALLERS = 8;

const DATA = 0;
const HEADERS = 1;
const RST_STREAM = 3;
const SETTINGS = 4;
const PING = 6;
const GOAWAY = 7;
/** Of HEADERS and DATA; and of SETTINGS and PING that it acknowledges. */
const END_STREAM = 1;
const ACK = 1;
const END_HEADERS = 4;

function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** A header as RFC 7541, 6.2.2 has it: not indexed, not compressed. */
function header(name: string, value: string): Buffer {
  const text = (string: string): Buffer => Buffer.concat([Buffer.from([string.length]), Buffer.from(string)]);
  return Buffer.concat([Buffer.from([0]), text(name), text(value)]);
}

const REQUEST_HEADERS = Buffer.concat([
  header(':method', 'POST'),
  header(':scheme', 'https'),
  header(':path', '/v1beta1.KeyManagementService/Encrypt'),
  header(':authority', HOST),
  header('content-type', 'application/grpc'),
  header('te', 'trailers'),
]);
const MESSAGE = field(2, 'value');
const REQUEST_BODY = Buffer.concat([Buffer.from([0, 0, 0, 0, MESSAGE.length]), MESSAGE]);

/** One connection with callers who each open a call when they had an answer, some milliseconds after it. */
class Callers {
  opened = 0;
  readonly #socket: tls.TLSSocket;
  /** Calls without an answer. */
  readonly #open = new Set<number>();
  readonly #failed: string[] = [];
  #received: Buffer = Buffer.alloc(0);
  #reading: NodeJS.Timeout | undefined;
  #told = false;

  constructor(socket: tls.TLSSocket) {
    this.#socket = socket;
    socket.on('error', () => undefined);
    socket.write(
      Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(SETTINGS, 0, 0, Buffer.alloc(0))]),
    );
    // What has come is read a little later: a client has other things to do.
    socket.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#reading ??= setTimeout(() => this.#read(), 1 + Math.random() * 2);
    });
    for (let count = 0; count < CALLERS; count++) this.#call();
  }

  /** @returns how each call ended that had no answer, when the connection is closed. */
  async closed(): Promise<readonly string[]> {
    if (!this.#socket.closed) await once(this.#socket, 'close');
    this.#read();
    return [...this.#failed, ...[...this.#open].map((stream) => `${stream} without an answer`)];
  }

  #call(): void {
    if (this.#told || this.#socket.destroyed) return;
    const stream = 2 * this.opened++ + 1;
    this.#open.add(stream);
    this.#socket.write(
      Buffer.concat([
        frame(HEADERS, END_HEADERS, stream, REQUEST_HEADERS),
        frame(DATA, END_STREAM, stream, REQUEST_BODY),
      ]),
    );
  }

  #read(): void {
    this.#reading = undefined;
    for (;;) {
      const { length } = this.#received;
      const size = length < 9 ? Infinity : 9 + this.#received.readUIntBE(0, 3);
      if (length < size) return;
      this.#take(this.#received.subarray(0, size));
      this.#received = this.#received.subarray(size);
    }
  }

  #take(received: Buffer): void {
    const [type, flags, stream] = [received.readUInt8(3), received.readUInt8(4), received.readUInt32BE(5)];
    if (type === GOAWAY) this.#told = true;
    if (type === PING && (flags & ACK) === 0) this.#socket.write(frame(PING, ACK, 0, received.subarray(9)));
    if (type === SETTINGS && (flags & ACK) === 0) this.#socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
    if (type === RST_STREAM && this.#open.delete(stream))
      this.#failed.push(`${stream} reset: ${received.readUInt32BE(9)}`);
    if (type === HEADERS && (flags & END_STREAM) !== 0 && this.#open.delete(stream)) {
      setTimeout(() => this.#call(), Math.random() * 3);
    }
  }
}

/** One stop under load. @returns how many calls were opened, and what has gone wrong. */
async function stop(socketPath: string, ca: Buffer, listener: object): Promise<[number, readonly string[]]> {
  const keyring = new FakeKeyring();
  keyring.before = () => pause(1);
  const finished: FinishedCall[] = [];
  const server = createApiServer({
    listeners: [listenerAt(socketPath, listener)],
    limits: LIMITS,
    keyring,
    log: new KeptLog(),
    version: '1.0.0',
    observer: { finished: (call) => void finished.push(call) },
  });
  await server.open();
  const socket = tls.connect({ path: socketPath, ca, servername: HOST, ALPNProtocols: ['h2'] });
  await once(socket, 'secureConnect');
  const callers = new Callers(socket);
  await until(() => finished.length >= CALLERS);
  await pause(Math.random() * 10);
  await server.shutdown(10_000);
  const wrong = await callers.closed();
  return [callers.opened, [...wrong, ...finished.map(({ status }) => status).filter((status) => status !== 'OK')]];
}

test(`up to ${STOPS} stops under load over TLS, and no call that a client opened sees an error`, async (t) => {
  const directory = temporaryDirectory(t);
  const authority = new Authority(directory);
  const listener = { tls: authority.issue('server') };
  let calls = 0;
  let stops = 0;
  const end = performance.now() + ENOUGH_MS;
  const lane = async (_: unknown, index: number): Promise<void> => {
    while (stops < STOPS && performance.now() < end) {
      const name = `stop ${++stops}`;
      const [opened, wrong] = await stop(path.join(directory, `${index}.sock`), authority.ca, listener);
      assert.deepEqual(wrong, [], name);
      calls += opened;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  t.diagnostic(`${stops} stops, ${calls} calls`);
});
