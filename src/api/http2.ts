import type { Http2Server, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import { Server, ServerCredentials } from '@grpc/grpc-js';

/** What happens on the HTTP/2 connections of a grpc.Server, before gRPC hears of it. */
export interface Http2Events {
  session(session: ServerHttp2Session): void;
  stream(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void;
}

/**
 * Makes a grpc.Server tell of its sessions and streams. gRPC's interceptors see neither the encoding nor a stream's bytes,
 * and its handlers see no session, so a private field of grpc-js leads to the HTTP/2 server behind the injector.
 * @throws Error where this release of grpc-js has it no more; `checkGrpc` finds that out at the start.
 */
export function watchHttp2(server: Server, events: Http2Events): void {
  const { http2Servers } = server as unknown as { http2Servers?: unknown };
  const [http2Server, more] =
    http2Servers instanceof Map ? [...(http2Servers as Map<Http2Server, unknown>).keys()] : [];
  if (http2Server === undefined || more !== undefined || http2Server.listenerCount('stream') !== 1) {
    throw new Error('this release of @grpc/grpc-js does not show its HTTP/2 server: use the one of package-lock.json');
  }
  http2Server.on('session', (session) => events.session(session));
  http2Server.prependListener('stream', (stream, headers) => events.stream(stream, headers));
}

/** @throws Error when grpc-js is not as `watchHttp2` needs it. */
export function checkGrpc(): void {
  const server = new Server();
  server.createConnectionInjector(ServerCredentials.createInsecure());
  watchHttp2(server, { session: () => undefined, stream: () => undefined });
  server.forceShutdown();
}

/** Longest time that a timer of Node's can have, in milliseconds; grpc-js cuts a longer deadline to 32 bits, and takes it for passed. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;
const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/**
 * Puts right in the headers what grpc-js would take amiss: a deadline of 25 days or more is none, and a compressed
 * message is refused (UNIMPLEMENTED) before it is inflated to a thousand times its size, which no client of ours needs.
 */
export function correctHeaders(headers: IncomingHttpHeaders): void {
  const timeout = headers['grpc-timeout'];
  if (typeof timeout === 'string') {
    const [, amount, unit = ''] = /(\d{1,8})\s*([HMSmun])/.exec(timeout) ?? [];
    if (amount !== undefined && Number(amount) * (UNIT_MS[unit] ?? 0) > LONGEST_TIMEOUT_MS)
      delete headers['grpc-timeout'];
  }
  const encoding = headers['grpc-encoding'];
  if (encoding !== undefined && encoding !== 'identity') headers['grpc-encoding'] = 'not-taken-here';
}

/** Bytes of decoded headers, as HPACK counts them (RFC 7541, 4.1). */
export function sizeOf(headers: IncomingHttpHeaders): number {
  let bytes = 0;
  for (const name in headers) bytes += name.length + (headers[name]?.length ?? 0) + 32;
  return bytes;
}
