import http2 from 'node:http2';
import { connect, type Socket } from 'node:net';

/** A client that knows no .proto file: HTTP/2 and bytes as written by hand. */
export class WireClient {
  readonly session: http2.ClientHttp2Session;
  readonly socket: Socket;
  readonly goaways: number[] = [];

  constructor(socketPath: string) {
    this.socket = connect({ path: socketPath });
    this.session = http2.connect('http://localhost', { createConnection: () => this.socket });
    this.session.on('error', () => undefined);
    this.session.on('goaway', (code: number) => this.goaways.push(code));
  }

  /** @param message of protobuf, without gRPC's prefix. */
  request(path: string, message: Buffer, headers: http2.OutgoingHttpHeaders = {}): http2.ClientHttp2Stream {
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(message.length, 1);
    const stream = this.session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...headers,
    });
    stream.on('error', () => undefined);
    stream.end(Buffer.concat([prefix, message]));
    return stream;
  }

  /** The answer's message, and grpc-status. */
  async call(
    path: string,
    message: Buffer,
    headers: http2.OutgoingHttpHeaders = {},
  ): Promise<{ message: Buffer; status: string | undefined }> {
    const stream = this.request(path, message, headers);
    const chunks: Buffer[] = [];
    let status: string | undefined;
    const see = (headers: http2.IncomingHttpHeaders): void => {
      const seen = headers['grpc-status'];
      if (typeof seen === 'string') status = seen;
    };
    stream.on('response', see);
    stream.on('trailers', see);
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    await new Promise((resolve) => stream.on('close', resolve));
    return { message: Buffer.concat(chunks).subarray(5), status };
  }

  ping(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.session.ping((error) => (error === null ? resolve() : reject(error)));
    });
  }
}

/** A protobuf field of type string, bytes or message (wire type 2), shorter than 128 bytes. */
export function field(number: number, content: Buffer | string): Buffer {
  const bytes = Buffer.from(content);
  return Buffer.concat([Buffer.from([(number << 3) | 2, bytes.length]), bytes]);
}
