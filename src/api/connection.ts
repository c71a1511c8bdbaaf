import { constants, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { ListenerConfig } from '../config/index.ts';
import { awakeMs } from '../call/index.ts';
import type { Budget, Holder } from './budget.ts';
import type { Caller, Core } from './core.ts';
import { Farewell } from './farewell.ts';
import { type HealthWatchers, healthService } from './health.ts';
import { correctHeaders, sizeOf, watchHttp2 } from './http2.ts';
import { type ServiceDefinitions, SERVICE_NAMES } from './protos.ts';
import { STATUS_NUMBERS } from './status.ts';
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

/** A stream whose request is not whole yet, or not answered. */
interface Exchange {
  /** `awakeMs()` of its first header. */
  readonly since: number;
  readonly stream: ServerHttp2Stream;
  /** Bytes of its headers and its request so far. */
  bytes: number;
  whole: boolean;
}

/** An answer that waits for its client to read it. */
interface Unread {
  readonly since: number;
  readonly bytes: number;
}

/** Memory of one HTTP/2 session in MB, as Node counts it: beyond it streams are refused, and what a client does not read stays out. */
const SESSION_MB = 32;

/** Fewest streams that a client may have open. */
const FEWEST_STREAMS = 16;

/** How long a connection that has only come has for its first call when the end comes, in milliseconds. */
export const LATE_MS = 500;

/**
 * One accepted connection, already decrypted: its patience, and the memory that its calls hold. It has a grpc.Server of its
 * own, into which its stream is injected: grpc-js tells a handler nothing about the connection that a call came on, so each
 * connection has its own handlers. That costs some tens of microseconds for a connection and nothing for a call.
 */
export class Connection implements Caller, Holder {
  readonly listener: string;
  #patientUntil: number;
  readonly #server: Server;
  readonly #stream: Socket;
  readonly #budget: Budget;
  readonly #requestMs: () => number;
  readonly #told: (why: string) => void;
  /** In the order of their beginning. */
  readonly #exchanges = new Set<Exchange>();
  readonly #unread = new Set<Unread>();
  #session: ServerHttp2Session | undefined;
  #farewell: Farewell | undefined;
  #held = 0;
  #lastAnswered = -Infinity;
  #idleSince: number;
  #served = false;
  /** Calls that its client has opened. */
  #opens = 0;
  #ended = false;
  #watch: NodeJS.Timeout | undefined;

  /**
   * @param accepted - `awakeMs()` of its accept.
   * @param told - hears why a connection or a request was ended.
   */
  constructor(
    services: Services,
    config: ListenerConfig,
    stream: Socket,
    accepted: number,
    told: (why: string) => void,
  ) {
    this.#stream = stream;
    const { core, definitions, watchers } = services;
    this.listener = config.name;
    this.#patientUntil = accepted + config.patienceMs;
    this.#idleSince = accepted;
    this.#budget = core.budget;
    this.#requestMs = () => core.callDeadlineMs;
    this.#told = told;
    this.#server = new Server(serverOptions(core));
    if (config.apis.includes('v1beta1')) this.#server.addService(definitions.v1beta1, v1beta1Service(core, this));
    if (config.apis.includes('v2')) this.#server.addService(definitions.v2, v2Service(core, this));
    const names = config.apis.map((api) => SERVICE_NAMES[api]);
    this.#server.addService(definitions.health, healthService(core, this, watchers, names));
    const injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
    watchHttp2(this.#server, {
      session: (session) => {
        this.#session = session;
      },
      stream: (opened, headers) => this.#opened(opened, headers),
    });
    this.#budget.enter(this);
    injector.injectConnection(stream);
  }

  get patientUntil(): number {
    return this.#patientUntil;
  }

  /** Whether the client has begun to speak HTTP/2: read off the decrypted stream's own count of bytes. */
  get begun(): boolean {
    return this.#stream.bytesRead >= BEGINNING_BYTES;
  }

  get held(): number {
    return this.#held;
  }

  get lastAnswered(): number {
    return this.#lastAnswered;
  }

  get waitingSince(): number | undefined {
    const [unread] = this.#unread;
    const unfinished = this.#oldestUnfinished();
    if (unread === undefined) return unfinished?.since;
    return Math.min(unread.since, unfinished?.since ?? Infinity);
  }

  /** Whether a call was ever answered by the HSM, and since when none is under way; undefined when one is. */
  get idle(): { readonly served: boolean; readonly since: number } | undefined {
    for (const { whole } of this.#exchanges) if (whole) return undefined;
    return { served: this.#served, since: this.#idleSince };
  }

  served(): void {
    this.#patientUntil = 0;
    this.#served = true;
  }

  answering(bytes: number): () => void {
    const unread: Unread = { since: awakeMs(), bytes };
    this.#unread.add(unread);
    this.#take(bytes);
    return () => {
      if (!this.#unread.delete(unread)) return;
      this.#give(bytes);
      this.#lastAnswered = awakeMs();
    };
  }

  cut(why: string): void {
    if (this.#ended) return;
    this.#told(why);
    this.#letGo();
    this.#stream.destroy();
  }

  cutOldestRequest(): boolean {
    const oldest = this.#oldestUnfinished();
    if (oldest === undefined) return false;
    this.#end(oldest, 'RESOURCE_EXHAUSTED', 'the memory for requests and answers is used up');
    return true;
  }

  answer(give: () => void): void {
    if (this.#farewell === undefined) give();
    else this.#farewell.answer(give);
  }

  /** Ends the connection when all that its client has opened is answered. One that has only come may still make its first call. */
  drain(): void {
    if (this.#opens > 0) this.#sayFarewell();
    else setTimeout(() => this.#sayFarewell(), LATE_MS).unref();
  }

  #sayFarewell(): void {
    const session = this.#session;
    const end = (): void => this.#server.tryShutdown(() => undefined);
    if (!this.begun || session === undefined) end();
    else this.#farewell = new Farewell(session, () => this.#opens, end);
  }

  /** The stream is closed: lets go of what hangs on it. */
  closed(): void {
    this.#letGo();
    this.#server.forceShutdown();
  }

  #opened(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    correctHeaders(headers);
    const exchange: Exchange = { since: awakeMs(), stream, bytes: 0, whole: false };
    this.#exchanges.add(exchange);
    this.#opens++;
    this.#watch ??= setInterval(() => this.#endLateRequests(), LOOK_MS);
    this.#count(exchange, sizeOf(headers));
    stream.on('data', (chunk: Buffer) => this.#count(exchange, chunk.length));
    stream.once('end', () => {
      exchange.whole = true;
    });
    stream.once('close', () => this.#over(exchange));
  }

  #count(exchange: Exchange, bytes: number): void {
    if (!this.#exchanges.has(exchange)) return;
    exchange.bytes += bytes;
    this.#take(bytes);
  }

  #over(exchange: Exchange): void {
    if (!this.#exchanges.delete(exchange)) return;
    this.#give(exchange.bytes);
    if (this.#exchanges.size > 0) return;
    this.#idleSince = awakeMs();
    clearInterval(this.#watch);
    this.#watch = undefined;
  }

  #oldestUnfinished(): Exchange | undefined {
    for (const exchange of this.#exchanges) if (!exchange.whole) return exchange;
    return undefined;
  }

  /** Nothing else bounds the time that a client takes for a request. One that is at work has others to send before it. */
  #endLateRequests(): void {
    const latest = awakeMs() - this.#requestMs();
    if (this.#lastAnswered > latest) return;
    for (const exchange of [...this.#exchanges]) {
      if (exchange.since > latest) return;
      if (!exchange.whole) {
        this.#end(exchange, 'DEADLINE_EXCEEDED', `the request did not come whole within ${this.#requestMs()} ms`);
      }
    }
  }

  #end(exchange: Exchange, status: 'DEADLINE_EXCEEDED' | 'RESOURCE_EXHAUSTED', why: string): void {
    const { stream } = exchange;
    this.#told(why);
    if (!stream.headersSent && !stream.destroyed) {
      const headers = {
        'content-type': 'application/grpc+proto',
        'grpc-status': STATUS_NUMBERS[status],
        'grpc-message': why,
      };
      stream.respond(headers, { endStream: true });
    }
    stream.close(constants.NGHTTP2_NO_ERROR);
    this.#over(exchange);
  }

  #take(bytes: number): void {
    if (this.#ended) return;
    this.#held += bytes;
    this.#budget.take(bytes);
  }

  #give(bytes: number): void {
    if (this.#ended) return;
    this.#held -= bytes;
    this.#budget.give(bytes);
  }

  #letGo(): void {
    if (this.#ended) return;
    this.#budget.leave(this);
    this.#ended = true;
    this.#held = 0;
    clearInterval(this.#watch);
    this.#exchanges.clear();
    this.#unread.clear();
  }
}

/** How often requests that are not whole are looked at, in milliseconds. */
const LOOK_MS = 500;

/**
 * A message above the limit ends its call with RESOURCE_EXHAUSTED before it is read, and the connection lives on.
 * Clients hold back what goes beyond the concurrent streams: room for every place and a share of the queue. No
 * age or idle limit, and pings are always answered: CredHub keeps one connection for ever.
 */
function serverOptions(core: Core): ConstructorParameters<typeof Server>[0] {
  const { inFlight, queued, messageBytes } = core.limits;
  return {
    'grpc.max_receive_message_length': messageBytes,
    'grpc.max_send_message_length': -1,
    'grpc.max_concurrent_streams': Math.max(FEWEST_STREAMS, inFlight + Math.ceil(queued / 4)),
    'grpc-node.max_session_memory': SESSION_MB,
    'grpc.enable_channelz': 0,
  };
}
