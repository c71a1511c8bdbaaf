import {
  type sendUnaryData,
  type ServerUnaryCall,
  type ServerWritableStream,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { Caller, Core } from './core.ts';
import type { CallFacts } from './ledger.ts';

type ServingStatus = 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';

interface CheckRequest {
  readonly service: string;
}
interface CheckResponse {
  readonly status: ServingStatus;
}
type WatchStream = ServerWritableStream<CheckRequest, CheckResponse>;

/** Streams of Watch, told of every change. One for the whole server. */
export class HealthWatchers {
  readonly #core: Core;
  readonly #told = new Map<WatchStream, ServingStatus>();
  readonly #unsubscribe: () => void;

  constructor(core: Core) {
    this.#core = core;
    this.#unsubscribe = core.keyring.onChange(() => this.#tellAll());
  }

  /** From memory: a health check asks nothing of the HSM. */
  state(): ServingStatus {
    return !this.#core.closing && this.#core.health().ok ? 'SERVING' : 'NOT_SERVING';
  }

  /** @param known - false: the service is not here and never will be; the protocol wants the stream left open. */
  watch(stream: WatchStream, known: boolean): void {
    this.#tell(stream, known ? this.state() : 'SERVICE_UNKNOWN');
  }

  leave(stream: WatchStream): void {
    this.#told.delete(stream);
  }

  /** Tells the last state and ends all streams, which would keep their connections open. */
  close(): void {
    this.#unsubscribe();
    this.#tellAll();
    for (const stream of this.#told.keys()) stream.end();
    this.#told.clear();
  }

  #tellAll(): void {
    const state = this.state();
    for (const [stream, told] of this.#told) {
      if (told !== state && told !== 'SERVICE_UNKNOWN') this.#tell(stream, state);
    }
  }

  #tell(stream: WatchStream, state: ServingStatus): void {
    this.#told.set(stream, state);
    stream.write({ status: state });
  }
}

/**
 * grpc.health.v1, for one connection: the whole server under the empty name, and each service of its listener.
 * @param services - full names of the services beside this one.
 */
export function healthService(
  core: Core,
  caller: Caller,
  watchers: HealthWatchers,
  services: readonly string[],
): UntypedServiceImplementation {
  const { ledger } = core;
  const names = ['', ...services];
  const checks = ledger.tally('health', 'Check');
  const watches = ledger.tally('health', 'Watch');
  const arrival = (): CallFacts => ({
    listener: caller.listener,
    arrived: performance.now(),
    requestBytes: 0,
    uid: undefined,
  });
  return {
    Check: (call: ServerUnaryCall<CheckRequest, CheckResponse>, callback: sendUnaryData<CheckResponse>) => {
      const facts = arrival();
      if (names.includes(call.request.service)) {
        callback(null, { status: watchers.state() });
        ledger.succeeded(checks, facts, 0, undefined);
      } else {
        callback({ code: status.NOT_FOUND, details: 'no such service on this listener' });
        ledger.notFound(checks, facts);
      }
    },
    List: core.local<object, { statuses: Record<string, CheckResponse> }>(ledger.tally('health', 'List'), caller, {
      answer: () => ({ statuses: Object.fromEntries(names.map((name) => [name, { status: watchers.state() }])) }),
    }),
    Watch: (stream: WatchStream) => {
      const facts = arrival();
      // Said at the end of every stream, however it ends.
      stream.once('cancelled', () => {
        watchers.leave(stream);
        ledger.succeeded(watches, facts, 0, undefined);
      });
      watchers.watch(stream, names.includes(stream.request.service));
    },
  };
}
