/**
 * 64 hostile connections, in a process of their own: hostile.ts SOCKET KIND. Each opens as many calls as it may, and comes
 * again when it was closed. "unfinished": requests of 4 MiB less a byte. "gzip": whole requests, small and inflated to 4 MiB.
 * "unread": values of 1 MiB to encrypt, and no window for the answers.
 */
import http2 from 'node:http2';
import { connect } from 'node:net';
import { gzipSync } from 'node:zlib';

const [socketPath = '', kind = ''] = process.argv.slice(2);
const CONNECTIONS = 64;
const MOST = 4 << 20;

function framed(message: Buffer, compressed = 0, length = message.length): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(compressed);
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, message]);
}

/** EncryptRequest with `plain` of so many bytes. */
function request(bytes: number): Buffer {
  const varint: number[] = [];
  for (let rest = bytes; rest > 0; rest >>>= 7) varint.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
  return Buffer.concat([Buffer.from([0x12, ...varint]), Buffer.alloc(bytes, 0x61)]);
}

const KINDS: Readonly<
  Record<string, { readonly body: Buffer; readonly end: boolean; readonly window?: number; readonly encoding?: string }>
> = {
  unfinished: { body: framed(Buffer.alloc(MOST - 1, 0x61), 0, MOST), end: false },
  gzip: { body: framed(gzipSync(request(MOST - 64)), 1), end: true, encoding: 'gzip' },
  unread: { body: framed(request(1 << 20)), end: true, window: 0 },
};
const chosen = KINDS[kind];
if (chosen === undefined) throw new Error(`no kind ${kind}`);
const { body, end, window = 1 << 20, encoding } = chosen;

function attack(): void {
  const socket = connect({ path: socketPath });
  const session = http2.connect('http://localhost', {
    createConnection: () => socket,
    settings: { initialWindowSize: window },
  });
  session.on('error', () => undefined);
  session.on('close', () => setTimeout(attack, 50));
  const open = (): void => {
    if (session.destroyed || session.closed) return;
    const stream = session.request({
      ':method': 'POST',
      ':path': '/v1beta1.KeyManagementService/Encrypt',
      'content-type': 'application/grpc',
      te: 'trailers',
      ...(encoding === undefined ? {} : { 'grpc-encoding': encoding }),
    });
    stream.on('error', () => undefined);
    stream.on('close', () => setTimeout(open, 5));
    stream.resume();
    stream.write(body);
    if (end) stream.end();
  };
  session.once('remoteSettings', ({ maxConcurrentStreams = 100 }: http2.Settings) => {
    for (let count = 0; count < Math.min(maxConcurrentStreams, 640); count++) open();
  });
}

for (let count = 0; count < CONNECTIONS; count++) attack();
process.stdout.write('attacking\n');
