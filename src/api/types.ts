import type { ApiName, LimitsConfig, ListenerConfig } from '../config/index.ts';
import type { StatusName } from '../errors/index.ts';
import type { Keyring, KeyringHealth } from '../keyring/index.ts';
import type { Log } from '../log/index.ts';
import type { Standing } from '../socket/index.ts';
import type { KubernetesReport } from './kubernetes.ts';

/** One listener as operators see it. */
export interface ListenerReport {
  readonly name: string;
  /** As configured: a path or `unix:///@name`. */
  readonly endpoint: string;
  readonly apis: readonly string[];
  readonly tls: boolean;
  readonly connections: number;
  /** Connections closed at once since the start, because limits.connections were open. */
  readonly refused?: number;
  /** ISO time at which the served certificate runs out; only with TLS. */
  readonly certificateExpires?: string;
  /** Only with v2. */
  readonly kubernetes?: KubernetesReport;
}

/** Calls as the API room counts them since start. */
export interface CallCounts {
  readonly inFlight: number;
  readonly queued: number;
  /** Waiting on a patient connection. */
  readonly waiting: number;
  /** One row for each API, method and gRPC status name. */
  readonly finished: readonly {
    readonly api: string;
    readonly method: string;
    readonly status: string;
    readonly count: number;
  }[];
}

/** One call that has ended, however it ended. Holds no value and no ciphertext. */
export interface FinishedCall {
  readonly api: ApiName | 'health';
  readonly method: string;
  readonly listener: string;
  /** gRPC status name; NOT_FOUND only from the health service. */
  readonly status: StatusName | 'OK' | 'NOT_FOUND';
  /** The failure's stable code (docs/errors.md). */
  readonly code: string | undefined;
  /** From the arrival of the whole request to the answer, waiting included. */
  readonly durationMs: number;
  /** Bytes of the value or ciphertext asked about. */
  readonly requestBytes: number;
  /** Bytes of the value or ciphertext answered. */
  readonly responseBytes: number;
  /** Key that encrypted or decrypted, or that a failed call asked for where that is known, 32 hex digits. */
  readonly keyId: string | undefined;
  /** v2's name for the request, made by the client; cut at 128 characters. */
  readonly uid: string | undefined;
}

/** Told of every call that has ended; must neither throw nor take long. */
export interface CallObserver {
  finished(call: FinishedCall): void;
}

export interface ApiServerOptions {
  readonly listeners: readonly ListenerConfig[];
  readonly limits: LimitsConfig;
  readonly keyring: Keyring;
  readonly log: Log;
  /** This program's version (semver), as v1beta1's Version answers it. */
  readonly version: string;
  readonly observer?: CallObserver;
}

/** The gRPC services on their listeners. */
export interface ApiServer {
  /**
   * Claims every listener's socket and serves. All or none: when one cannot be had, the others are given up again.
   * @throws SocketError when a socket cannot be claimed, Error when a certificate cannot be loaded.
   */
  open(): Promise<void>;
  /**
   * Takes new certificates, patience, APIs and limits for new connections, and new call limits for new calls. No call is
   * dropped. What only a restart can change (names, endpoints, modes, TLS or not) is an error, and nothing is taken then.
   */
  reload(listeners: readonly ListenerConfig[], limits: LimitsConfig): Promise<void>;
  /**
   * Stops accepting, removes the sockets' names, fails calls that wait for the token (UNAVAILABLE), lets the others end, and
   * resolves when all connections are closed: by force when `withinMs` have passed.
   */
  shutdown(withinMs: number): Promise<void>;
  listeners(): readonly ListenerReport[];
  /** What stands under each listener's name now; looks at the file system, and never throws. Empty before `open`. */
  standings(): readonly { readonly name: string; readonly endpoint: string; readonly standing: Standing }[];
  calls(): CallCounts;
  /** The keyring's health, and whether calls that are in flight are answered. From memory. */
  health(): KeyringHealth;
}
