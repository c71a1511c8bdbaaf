import type { AddressInfo } from 'node:net';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { FAULTS } from '../errors/index.ts';
import type { Log } from '../log/index.ts';
import { guarded } from '../guard/index.ts';
import { boundedServer, sendJson, sendText } from './http.ts';

/** One answer about health; `reason` is in the operator's words, "ok" when ok. */
export interface Health {
  readonly ok: boolean;
  readonly reason: string;
}

export interface HealthChecks {
  /** Whether a restart could help: the listeners stand. Never fails because of the HSM. */
  live(): Health;
  /** Whether calls succeed, as far as is known. Asks nobody. */
  ready(): Health;
  /** The page for Prometheus; nothing is at /metrics without it. */
  metrics?(): Promise<{ readonly contentType: string; readonly text: string }>;
}

export interface HealthServer {
  /** Where it listens; undefined while the port is in use by another. */
  address(): AddressInfo | undefined;
  /** Resolves when the port is open, or the first attempt has failed. */
  readonly tried: Promise<void>;
  close(): Promise<void>;
}

const CONNECTIONS = 64;
const RETRY_MS = 5_000;

/**
 * The read-only HTTP port for kubelet, monit, Prometheus and people: /healthz/liveness, /healthz/readiness, /healthz with
 * both (200 or 503, with a JSON body), and /metrics. A port that is in use must not keep the service from serving: it is logged as an error
 * and tried again every 5 s.
 */
export function openHealthServer(
  where: { readonly address: string; readonly port: number },
  checks: HealthChecks,
  log: Log,
  retryMs = RETRY_MS,
): HealthServer {
  const server = boundedServer(
    'health port',
    (request, response) => answer(request, response, checks),
    CONNECTIONS,
    log,
  );
  let retry: NodeJS.Timeout | undefined;
  let failed = false;
  let firstEnd = (): void => undefined;
  const tried = new Promise<void>((resolve) => {
    firstEnd = resolve;
  });
  const listen = (): void => void server.listen({ host: where.address, port: where.port, exclusive: true });
  server.on('error', (error: NodeJS.ErrnoException) => {
    // Accepting has failed, not listening.
    if (server.listening) return;
    failed = true;
    const trouble =
      error.code === 'EADDRINUSE' ? 'is in use by another program' : `cannot be opened (${error.message})`;
    log.error(
      `the health port ${where.address}:${where.port} ${trouble}; ` +
        'health is not served until it is free: free it, or set health.port. It is tried again by itself',
      { code: FAULTS['health-port'].code },
    );
    retry = setTimeout(guarded(log, 'opening the health port', listen), retryMs);
    retry.unref();
    firstEnd();
  });
  server.on('listening', () => {
    const { port } = server.address() as AddressInfo;
    if (failed) log.info('the health port is open now', { address: where.address, port });
    failed = false;
    firstEnd();
  });
  listen();
  return {
    address: () => (server.listening ? (server.address() as AddressInfo) : undefined),
    tried,
    close: () => {
      clearTimeout(retry);
      return new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      });
    },
  };
}

async function answer(request: IncomingMessage, response: ServerResponse, checks: HealthChecks): Promise<void> {
  const send = (status: number, value: unknown): void => sendJson(request, response, status, value);
  const path = (request.url ?? '').split('?', 1)[0];
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    send(405, { error: { message: 'this port takes GET and HEAD only' } });
  } else if (path === '/healthz/liveness') {
    const live = checks.live();
    send(live.ok ? 200 : 503, live);
  } else if (path === '/healthz/readiness') {
    const ready = checks.ready();
    send(ready.ok ? 200 : 503, ready);
  } else if (path === '/healthz') {
    const both = { liveness: checks.live(), readiness: checks.ready() };
    send(both.liveness.ok && both.readiness.ok ? 200 : 503, both);
  } else if (path === '/metrics' && checks.metrics !== undefined) {
    const { contentType, text } = await checks.metrics();
    sendText(request, response, 200, contentType, text);
  } else {
    send(404, { error: { message: 'there is /healthz, /healthz/liveness, /healthz/readiness and /metrics' } });
  }
}
