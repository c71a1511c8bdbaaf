import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';

/** Bodies of requests on the control socket are a label or a level; 16 KiB is plenty. */
const LARGEST_BODY = 16 * 1024;

/** What an HTTP answer says when it is no 200: `{"error": {"message", "code"?}}`. */
export class HttpError extends Error {
  readonly status: number;
  readonly code: string | undefined;

  constructor(status: number, message: string, code?: string) {
    super(message);
    this.name = 'HttpError';
    this.status = status;
    this.code = code;
  }
}

/**
 * A connection on which nothing has moved for so long, at most twice that, is closed, in milliseconds: a client that does
 * not read its answers would keep a place for ever. Every request is answered in half of it.
 */
const STILL_MS = 10_000;

/** An HTTP server that a slow or talkative client cannot hold: bounded headers, connections and times. */
export function boundedServer(listener: RequestListener, connections: number): Server {
  const server = createServer(
    {
      maxHeaderSize: 8 * 1024,
      headersTimeout: 5_000,
      requestTimeout: 10_000,
      keepAliveTimeout: 5_000,
      connectionsCheckingInterval: 1_000,
    },
    listener,
  );
  server.maxConnections = connections;
  server.timeout = STILL_MS;
  return server;
}

/** Sends one JSON value, ended by a line feed for the sake of curl. */
export function sendJson(request: IncomingMessage, response: ServerResponse, status: number, value: unknown): void {
  sendText(request, response, status, 'application/json', `${JSON.stringify(value)}\n`);
}

/** Sends a whole text; only its length for HEAD. */
export function sendText(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  contentType: string,
  text: string,
): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    // What was not read of a request must not be taken for the next one.
    ...(request.complete ? {} : { connection: 'close' }),
  });
  response.end(request.method === 'HEAD' ? undefined : text);
}

/**
 * Reads a request's body as a JSON object; no body at all is an empty one.
 * @throws HttpError 413 when it is larger than 16 KiB, 400 when it is no JSON object.
 */
export async function readJsonObject(request: IncomingMessage): Promise<Readonly<Record<string, unknown>>> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > LARGEST_BODY) throw new HttpError(413, `the request's body is larger than ${LARGEST_BODY} bytes`);
    chunks.push(chunk);
  }
  if (size === 0) return {};
  const value = parsed(Buffer.concat(chunks).toString());
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new HttpError(400, "the request's body must be a JSON object");
  }
  return value as Readonly<Record<string, unknown>>;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
