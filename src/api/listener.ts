import { createServer, type Server, type Socket } from 'node:net';
import { awakeMs } from '../call/index.ts';
import type { ListenerConfig } from '../config/index.ts';
import { FAULTS } from '../errors/index.ts';
import type { Log } from '../log/index.ts';
import { claimSocket, type SocketClaim, type Standing } from '../socket/index.ts';
import { Connection, LATE_MS, type Services } from './connection.ts';
import { kubernetesReport } from './kubernetes.ts';
import { type Certificate, socketBeneath, TlsGate } from './tls.ts';
import type { ListenerReport } from './types.ts';

/**
 * Time for a client to begin HTTP/2, from its accept or the end of its TLS handshake (which has a limit of its own), in
 * milliseconds. Whoever just connects would keep a place among limits.connections for ever; a client that has begun may.
 */
const BEGIN_MS = 10_000;

/** Time for a client to close a connection whose end it has been told, in milliseconds. */
const FAREWELL_MS = 1_000;

/** One listener: its socket, its TLS, and the connections that came in by it. */
export class Listener {
  #config: ListenerConfig;
  readonly #services: Services;
  readonly #log: Log;
  readonly #server: Server;
  readonly #gate: TlsGate | undefined;
  readonly #sockets = new Set<Socket>();
  /** Of `#sockets` those in the middle of a TLS handshake, in the order of their accept. */
  readonly #greeting = new Set<Socket>();
  readonly #connections = new Set<Connection>();
  #claim: SocketClaim | undefined;
  #draining = false;
  #refused = 0;
  #emptied: (() => void) | undefined;

  /**
   * @param certificate - given exactly when the listener has TLS.
   */
  constructor(config: ListenerConfig, certificate: Certificate | undefined, services: Services, log: Log) {
    this.#config = config;
    this.#services = services;
    this.#log = log;
    this.#server = createServer((socket) => this.#accept(socket));
    if (certificate !== undefined) {
      this.#gate = new TlsGate(certificate, config.name, log, (socket) => {
        this.#greeted(socket);
        this.#serve(socket);
      });
    }
  }

  get config(): ListenerConfig {
    return this.#config;
  }

  /** Accepted sockets, those in the middle of a TLS handshake included. */
  get size(): number {
    return this.#sockets.size;
  }

  /** @throws SocketError */
  async open(): Promise<void> {
    this.#claim = await claimSocket(this.#server, this.#config.endpoint, { mode: this.#config.mode });
    // Accepting can fail for a while (too many files are open); that must not end the program.
    this.#server.on('error', (error) =>
      this.#log.error(`cannot accept a connection: ${error.message}`, {
        listener: this.#config.name,
        code: FAULTS.accept.code,
      }),
    );
  }

  /** For new connections. */
  reload(config: ListenerConfig, certificate: Certificate | undefined): void {
    this.#config = { ...this.#config, patienceMs: config.patienceMs, apis: config.apis };
    if (certificate !== undefined) this.#gate?.use(certificate);
  }

  /** Removes the socket's name; no new connections. */
  async stopAccepting(): Promise<void> {
    await this.#claim?.release();
  }

  /** Asks all clients to go. Who is about to come or to begin is still served. */
  drain(): void {
    this.#draining = true;
    for (const connection of this.#connections) connection.drain();
    setTimeout(() => {
      for (const socket of this.#greeting) socket.destroy();
    }, LATE_MS).unref();
  }

  /** Resolves when no connection is open. */
  empty(): Promise<void> {
    return this.#sockets.size === 0
      ? Promise.resolve()
      : new Promise((resolve) => {
          this.#emptied = resolve;
        });
  }

  /** Closes what is left. */
  destroy(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** What stands under the socket's name; undefined before it is claimed. */
  standing(): Standing | undefined {
    return this.#claim?.look();
  }

  report(): ListenerReport {
    const { name, endpoint, apis } = this.#config;
    const { core } = this.#services;
    return {
      name,
      endpoint: endpoint.kind === 'path' ? endpoint.path : `unix:///@${endpoint.name}`,
      apis,
      tls: this.#gate !== undefined,
      connections: this.#sockets.size,
      refused: this.#refused,
      ...(this.#gate === undefined ? {} : { certificateExpires: this.#gate.expires.toISOString() }),
      ...(apis.includes('v2') ? { kubernetes: kubernetesReport(core, core.statusAskers.last(name)) } : {}),
    };
  }

  #accept(socket: Socket): void {
    const listener = this.#config.name;
    socket.on('error', (error) => this.#log.debug(`connection failed: ${error.message}`, { listener }));
    const open = this.#greeting.size + this.#connections.size;
    if (open >= this.#services.core.limits.connections && !this.#makeRoom()) {
      this.#refused++;
      socket.destroy();
      this.#tellFull('connection refused: as many are open and at work as limits.connections allows');
      return;
    }
    this.#sockets.add(socket);
    socket.on('close', () => {
      this.#sockets.delete(socket);
      if (this.#sockets.size === 0) this.#emptied?.();
    });
    if (this.#gate === undefined) this.#serve(socket);
    else {
      this.#greeting.add(socket);
      socket.on('close', () => this.#greeting.delete(socket));
      this.#gate.accept(socket);
    }
  }

  /** The handshake has ended well. */
  #greeted(secure: Socket): void {
    const accepted = socketBeneath(secure);
    if (accepted !== undefined) this.#greeting.delete(accepted);
  }

  /**
   * Anybody who may open the socket can open it many times: the connection that has been idle for longest goes, first among
   * those that never had a call answered by the HSM. False when all are at work.
   */
  #makeRoom(): boolean {
    const [handshake] = this.#greeting;
    const idle = [...this.#connections].flatMap((connection) =>
      connection.idle === undefined ? [] : [{ connection, ...connection.idle }],
    );
    idle.sort((one, other) => Number(one.served) - Number(other.served) || one.since - other.since);
    const [first] = idle;
    const why = 'as many connections are open as limits.connections allows, and it has been idle for longest';
    if (handshake !== undefined && first?.served !== false) {
      this.#tellFull(`a connection in its TLS handshake is closed: ${why}`);
      this.#greeting.delete(handshake);
      handshake.destroy();
    } else if (first === undefined) return false;
    else {
      this.#connections.delete(first.connection);
      first.connection.cut(why);
    }
    return true;
  }

  #tellFull(message: string): void {
    this.#log.warn(message, {
      listener: this.#config.name,
      kind: 'connections',
      code: FAULTS.connections.code,
      limit: this.#services.core.limits.connections,
    });
  }

  #serve(stream: Socket): void {
    const connection = new Connection(this.#services, this.#config, stream, awakeMs(), (why) =>
      this.#log.warn(`connection or request ended: ${why}`, { listener: this.#config.name, kind: why }),
    );
    this.#connections.add(connection);
    const beginning = setTimeout(() => {
      if (connection.begun) return;
      stream.destroy();
      this.#log.warn(`a client has connected and not begun HTTP/2 within ${BEGIN_MS / 1000} s: connection closed`, {
        listener: this.#config.name,
        kind: 'no-beginning',
      });
    }, BEGIN_MS);
    let farewell: NodeJS.Timeout | undefined;
    // HTTP/2 has ended the stream, its session being over; a client that does not read would keep it open for ever.
    stream.on('finish', () => {
      farewell = setTimeout(() => stream.destroy(), FAREWELL_MS);
    });
    stream.on('close', () => {
      clearTimeout(beginning);
      clearTimeout(farewell);
      this.#connections.delete(connection);
      connection.closed();
    });
    if (this.#draining) connection.drain();
  }
}
