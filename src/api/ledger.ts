import type { Log } from '../log/index.ts';
import { guarded } from '../guard/index.ts';
import { KmsError } from '../errors/index.ts';
import type { CallCounts, CallObserver, FinishedCall } from './types.ts';

/** One method of one API, with how its calls have ended. */
export interface MethodTally {
  readonly api: FinishedCall['api'];
  readonly method: string;
  readonly ended: Map<FinishedCall['status'], number>;
}

/** What is known of a call before it ends. */
export interface CallFacts {
  readonly listener: string;
  /** `performance.now()` of its arrival. */
  readonly arrived: number;
  readonly requestBytes: number;
  readonly uid: string | undefined;
}

/** Longest request name of a client's that is passed on, in characters. */
const LONGEST_UID = 128;

/** Every call is entered here once, when it has ended: counted, logged when it failed, and told to the observer. */
export class Ledger {
  readonly #log: Log;
  readonly #tell: (call: FinishedCall) => void;
  readonly #tallies: MethodTally[] = [];

  constructor(log: Log, observer: CallObserver | undefined) {
    this.#log = log;
    this.#tell = guarded(log, 'those who look on at calls', (call: FinishedCall) => observer?.finished(call));
  }

  tally(api: FinishedCall['api'], method: string): MethodTally {
    const known = this.#tallies.find((tally) => tally.api === api && tally.method === method);
    if (known !== undefined) return known;
    const tally: MethodTally = { api, method, ended: new Map() };
    this.#tallies.push(tally);
    return tally;
  }

  succeeded(tally: MethodTally, facts: CallFacts, responseBytes: number, keyId: string | undefined): void {
    this.#enter(tally, facts, 'OK', undefined, responseBytes, keyId);
  }

  failed(tally: MethodTally, facts: CallFacts, error: KmsError): void {
    this.#report(tally, facts, error);
    const { keyId } = error.facts;
    this.#enter(tally, facts, error.status, error.code, 0, typeof keyId === 'string' ? keyId : undefined);
  }

  /** Health's answer to a name that it does not know. */
  notFound(tally: MethodTally, facts: CallFacts): void {
    this.#enter(tally, facts, 'NOT_FOUND', undefined, 0, undefined);
  }

  rows(): CallCounts['finished'] {
    return this.#tallies.flatMap(({ api, method, ended }) =>
      [...ended].map(([status, count]) => ({ api, method, status, count })),
    );
  }

  #enter(
    tally: MethodTally,
    facts: CallFacts,
    status: FinishedCall['status'],
    code: string | undefined,
    responseBytes: number,
    keyId: string | undefined,
  ): void {
    tally.ended.set(status, (tally.ended.get(status) ?? 0) + 1);
    const call: FinishedCall = {
      api: tally.api,
      method: tally.method,
      listener: facts.listener,
      status,
      code,
      durationMs: performance.now() - facts.arrived,
      requestBytes: facts.requestBytes,
      responseBytes,
      keyId,
      uid: facts.uid?.slice(0, LONGEST_UID),
    };
    this.#log.debug('call ended', call as unknown as Record<string, unknown>);
    this.#tell(call);
  }

  /** A client that gives up is its own affair; what is our fault is an error; the rest an operator should hear of. */
  #report(tally: MethodTally, facts: CallFacts, error: KmsError): void {
    const level = error.kind === 'cancelled' ? 'debug' : error.status === 'INTERNAL' ? 'error' : 'warn';
    this.#log[level](`${tally.api} ${tally.method} failed: ${error.message}`, {
      ...error.facts,
      listener: facts.listener,
      kind: error.kind,
      code: error.code,
      status: error.status,
      ...(error.cause === undefined ? {} : { cause: describe(error.cause) }),
    });
  }
}

/** What was thrown underneath, for the log only. Anything but an Error could be anybody's bytes. */
function describe(cause: unknown): unknown {
  return cause instanceof Error ? cause : `a thrown ${typeof cause}`;
}
