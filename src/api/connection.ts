import type { Socket } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { ListenerConfig } from '../config/index.ts';
import type { Caller, Core } from './core.ts';
import { type HealthWatchers, healthService } from './health.ts';
import { type ServiceDefinitions, SERVICE_NAMES } from './protos.ts';
import { v1beta1Service } from './v1beta1.ts';
import { v2Service } from './v2.ts';

/** What connections of all listeners share. */
export interface Services {
  readonly core: Core;
  readonly watchers: HealthWatchers;
  readonly definitions: ServiceDefinitions;
}

/**
 * What a client sends before anything else (RFC 9113, 3.4), in bytes: 24 of the preface and the head (9) of a SETTINGS
 * frame. The HTTP/2 session ends itself at the first byte that is anything else.
 */
const BEGINNING_BYTES = 24 + 9;

/**
 * One accepted connection, already decrypted, and its patience. It has a grpc.Server of its own, into which its stream is
 * injected: grpc-js tells a handler nothing about the connection that a call came on, so each connection has its own
 * handlers. That costs some tens of microseconds for a connection and nothing for a call.
 */
export class Connection implements Caller {
  readonly listener: string;
  #patientUntil: number;
  readonly #server: Server;
  readonly #stream: Socket;

  /** @param accepted - `performance.now()` of its accept. */
  constructor(services: Services, config: ListenerConfig, stream: Socket, accepted: number) {
    this.#stream = stream;
    const { core, definitions, watchers } = services;
    this.listener = config.name;
    this.#patientUntil = accepted + config.patienceMs;
    this.#server = new Server(serverOptions(core));
    if (config.apis.includes('v1beta1')) this.#server.addService(definitions.v1beta1, v1beta1Service(core, this));
    if (config.apis.includes('v2')) this.#server.addService(definitions.v2, v2Service(core, this));
    const names = config.apis.map((api) => SERVICE_NAMES[api]);
    this.#server.addService(definitions.health, healthService(core, this, watchers, names));
    this.#server.createConnectionInjector(ServerCredentials.createInsecure()).injectConnection(stream);
  }

  get patientUntil(): number {
    return this.#patientUntil;
  }

  /** Whether the client has begun to speak HTTP/2: read off the decrypted stream's own count of bytes. */
  get begun(): boolean {
    return this.#stream.bytesRead >= BEGINNING_BYTES;
  }

  served(): void {
    this.#patientUntil = 0;
  }

  /** GOAWAY: no new calls; the connection closes when those under way have ended. */
  drain(): void {
    this.#server.tryShutdown(() => undefined);
  }

  /** The stream is closed: lets go of what hangs on it. */
  closed(): void {
    this.#server.forceShutdown();
  }
}

/**
 * A message above the limit ends its call with RESOURCE_EXHAUSTED before it is read, and the connection lives on.
 * Clients hold back what goes beyond the concurrent streams, which leaves room for every place and queue to fill. No
 * age or idle limit, and pings are always answered: CredHub keeps one connection for ever.
 */
function serverOptions(core: Core): ConstructorParameters<typeof Server>[0] {
  const { inFlight, queued, messageBytes } = core.limits;
  return {
    'grpc.max_receive_message_length': messageBytes,
    'grpc.max_send_message_length': -1,
    'grpc.max_concurrent_streams': inFlight + 2 * queued + 64,
    'grpc.enable_channelz': 0,
  };
}
