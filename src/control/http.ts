import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { FAULTS } from '../errors/index.ts';
import type { Log } from '../log/index.ts';
import { guarded } from '../guard/index.ts';
import { Places } from './places.ts';

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

/** Answers one request; what it throws or rejects with is answered by 500 and goes into the log. */
export type Answerer = (request: IncomingMessage, response: ServerResponse) => Promise<void> | void;

/**
 * An HTTP server that a slow or talkative client cannot hold, and that nothing in an answer can end: bounded headers,
 * connections and times.
 * @param name - of it, for the log.
 */
export function boundedServer(name: string, answer: Answerer, connections: number, log: Log): Server {
  const places = new Places(connections);
  const answered = guarded(log, `an answer of the ${name}`, answer, (request, response) => {
    if (response.headersSent) response.destroy();
    else sendJson(request, response, 500, { error: { message: 'internal error; the log has the details' } });
  });
  const server = createServer(
    {
      maxHeaderSize: 8 * 1024,
      headersTimeout: 5_000,
      requestTimeout: 10_000,
      keepAliveTimeout: 5_000,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => {
      places.begin(request, response);
      answered(request, response);
    },
  );
  server.on('connection', (socket) => places.enter(socket));
  // Accepting can fail for a while (too many files are open), while the server goes on listening.
  server.on('error', (error) => {
    if (!server.listening) return;
    log.error(`the ${name} cannot accept a connection: ${error.message}`, { code: FAULTS.accept.code });
  });
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
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > LARGEST_BODY) throw new HttpError(413, `the request's body is larger than ${LARGEST_BODY} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    // A client that hangs up is its own affair, and no fault to log.
    throw error instanceof HttpError ? error : new HttpError(400, "the request's body did not come whole");
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
