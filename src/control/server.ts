import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { KmsError, toKmsError, type StatusName } from '../errors/index.ts';
import { LOG_LEVELS, type Log, type LogLevel } from '../log/index.ts';
import { boundedServer, HttpError, readJsonObject, sendJson } from './http.ts';
import type { ControlHandlers } from './types.ts';

type Body = Readonly<Record<string, unknown>>;
type Route = (handlers: ControlHandlers, body: Body) => unknown;

/** Connections at once; a verb opens one for one request. */
const CONNECTIONS = 32;

/** Longest time for which a level may be set, in milliseconds: a day. */
const LONGEST_LEVEL_MS = 24 * 3600 * 1000;

/** The whole of what the control socket answers. */
const ROUTES: Readonly<Record<string, { readonly GET?: Route; readonly POST?: Route }>> = {
  '/v1/status': { GET: (handlers) => handlers.status() },
  '/v1/keys': { GET: (handlers) => handlers.keys() },
  '/v1/keys/create': { POST: (handlers, body) => handlers.createKey(text(body, 'label')) },
  '/v1/keys/inspect': { POST: (handlers, body) => handlers.inspectKey(text(body, 'label')) },
  '/v1/log-level': { POST: (handlers, body) => handlers.setLogLevel(level(body), duration(body)) },
  '/v1/pin': { GET: (handlers) => handlers.pins() },
  '/v1/pin/clear': {
    POST: (handlers, body) => handlers.clearPins(body['serial'] === undefined ? undefined : text(body, 'serial')),
  },
  '/v1/reload': { POST: (handlers) => handlers.reload() },
};

/**
 * The server behind the control socket: JSON over HTTP for the verbs, of the same user on the same machine (the socket's
 * mode is 0600). Whoever opens it decides where it listens. Errors are `{"error": {"message", "code"?}}`, with a status
 * that fits; what is not a KmsError goes into the log and not into the answer.
 */
export function createControlServer(handlers: ControlHandlers, log: Log): Server {
  const send = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    try {
      sendJson(request, response, 200, await answer(request, handlers));
    } catch (thrown) {
      const error = toHttpError(thrown, log);
      sendJson(request, response, error.status, { error: { message: error.message, code: error.code } });
    }
  };
  return boundedServer('control socket', send, CONNECTIONS, log);
}

async function answer(request: IncomingMessage, handlers: ControlHandlers): Promise<unknown> {
  const path = (request.url ?? '').split('?', 1)[0] ?? '';
  const routes = Object.hasOwn(ROUTES, path) ? ROUTES[path] : undefined;
  if (routes === undefined) throw new HttpError(404, `there is nothing at ${path.slice(0, 200)}`);
  const { method } = request;
  const route = method === 'GET' || method === 'POST' ? routes[method] : undefined;
  if (route === undefined) throw new HttpError(405, `${path} takes ${Object.keys(routes).join(' and ')} only`);
  return await route(handlers, method === 'POST' ? await readJsonObject(request) : {});
}

function text(body: Body, name: string): string {
  const value = body[name];
  if (typeof value !== 'string' || value === '')
    throw new HttpError(400, `"${name}" must be a string that is not empty`);
  return value;
}

function level(body: Body): LogLevel {
  const wanted = text(body, 'level');
  const found = LOG_LEVELS.find((each) => each === wanted);
  if (found === undefined) throw new HttpError(400, `"level" must be one of ${LOG_LEVELS.join(', ')}`);
  return found;
}

function duration(body: Body): number | undefined {
  const value = body['for'];
  if (value === undefined) return undefined;
  if (typeof value === 'number' && value > 0 && value <= LONGEST_LEVEL_MS) return value;
  throw new HttpError(400, '"for" must be a number of milliseconds, at most a day');
}

const HTTP_STATUS: Readonly<Record<StatusName, number>> = {
  INVALID_ARGUMENT: 400,
  FAILED_PRECONDITION: 409,
  UNAVAILABLE: 503,
  DEADLINE_EXCEEDED: 504,
  RESOURCE_EXHAUSTED: 429,
  INTERNAL: 500,
  CANCELLED: 503,
};

function toHttpError(thrown: unknown, log: Log): HttpError {
  if (thrown instanceof HttpError) return thrown;
  const error = toKmsError(thrown);
  if (!(thrown instanceof KmsError)) log.error('a control request failed', { code: error.code, error: thrown });
  return new HttpError(HTTP_STATUS[error.status], error.message, error.code);
}
