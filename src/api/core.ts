import type { handleUnaryCall, sendUnaryData, ServerUnaryCall } from '@grpc/grpc-js';
import type { LimitsConfig } from '../config/index.ts';
import { KmsError, toKmsError } from '../errors/index.ts';
import type { Keyring, KeyringHealth } from '../keyring/index.ts';
import type { Log } from '../log/index.ts';
import { guarded } from '../guard/index.ts';
import { Admission } from './admission.ts';
import { Budget } from './budget.ts';
import type { Errand } from './errand.ts';
import { StatusAskers } from './kubernetes.ts';
import { type CallFacts, Ledger, type MethodTally } from './ledger.ts';
import { Progress } from './progress.ts';
import { type Patient, Run, type RunHall, shuttingDown, type Timed } from './run.ts';
import { Runs } from './runs.ts';
import { toGrpcStatus } from './status.ts';
import type { CallCounts, CallObserver } from './types.ts';
import { WaitingRoom } from './waiting-room.ts';

/** Where a call comes from. */
export interface Caller extends Patient {
  /** The listener's name. */
  readonly listener: string;
  /** An answer of so many bytes is on its way; the function that is returned says that it has left. */
  answering(bytes: number): () => void;
  /** Gives an answer, now or in a moment: at the end of the program the client first learns that it must open no more calls. */
  answer(give: () => void): void;
}

/** A method that needs no HSM: answered from memory, never waits. */
export interface LocalMethod<Request, Response> {
  /**
   * @param client - what the client calls itself (its user-agent): a stranger's word.
   * @throws KmsError
   */
  answer(request: Request, client: string): Response;
}

/** With calls in flight the HSM must answer one in so many milliseconds. */
const STALLED_MS = 3_000;

/** What stands in a message whose value was taken: grpc-js keeps messages until long after their call. */
export const NOTHING = Buffer.alloc(0);

/** A method that needs the HSM. */
export interface HsmMethod<Request, Response, Result> {
  /** Takes the value or ciphertext asked about out of the message, and leaves NOTHING there. */
  take(request: Request): Buffer;
  uid?(request: Request): string;
  /** @throws KmsError what is wrong with the request itself. */
  errand(request: Request, payload: Buffer): Errand<Result>;
  /** @throws KmsError a result that cannot be given out. */
  answer(result: Result): { response: Response; responseBytes: number; keyId: string };
}

/**
 * What the services of all APIs on all listeners share: one admission, one waiting room, one way from an error to a
 * status. A service only says what its messages mean.
 */
export class Core implements RunHall {
  readonly keyring: Keyring;
  readonly version: string;
  readonly admission: Admission;
  readonly budget = new Budget();
  readonly progress = new Progress();
  readonly waitingRoom: WaitingRoom;
  readonly ledger: Ledger;
  readonly timeUp: (run: Timed) => void;
  readonly statusAskers = new StatusAskers();
  #limits: LimitsConfig;
  #closing = false;
  readonly #runs = new Runs();

  constructor(options: {
    limits: LimitsConfig;
    keyring: Keyring;
    log: Log;
    version: string;
    observer: CallObserver | undefined;
  }) {
    this.keyring = options.keyring;
    this.version = options.version;
    this.#limits = options.limits;
    this.admission = new Admission(options.limits.inFlight, options.limits.queued);
    this.waitingRoom = new WaitingRoom(options.keyring, options.limits.queued, options.log);
    this.timeUp = guarded(options.log, "a call's deadline", (run: Timed) => run.timeUp());
    this.ledger = new Ledger(options.log, options.observer);
  }

  get limits(): LimitsConfig {
    return this.#limits;
  }

  /** What the keyring knows, and whether calls that are with it are answered. */
  health(): KeyringHealth {
    const health = this.keyring.health();
    const stalledMs = this.progress.stalledMs();
    if (!health.ok || stalledMs < STALLED_MS) return health;
    const seconds = Math.floor(stalledMs / 1000);
    return { ...health, ok: false, reason: `the HSM has answered no call for ${seconds} s, with calls in flight` };
  }

  get callDeadlineMs(): number {
    return this.#limits.callDeadlineMs;
  }

  get closing(): boolean {
    return this.#closing;
  }

  /** New limits, for new calls. */
  setLimits(limits: LimitsConfig): void {
    this.#limits = limits;
    this.admission.resize(limits.inFlight, limits.queued);
    this.waitingRoom.resize(limits.queued);
  }

  /** Who waits for the token fails, and nobody waits from now on; what clients have begun is served until `abortAll`. */
  close(): void {
    this.#closing = true;
    for (const run of this.#runs.all()) run.abortWaiting(shuttingDown());
    this.waitingRoom.close();
    this.budget.close();
  }

  /** Fails whatever still runs. */
  abortAll(): void {
    for (const run of this.#runs.all()) run.abort(shuttingDown());
  }

  counts(): CallCounts {
    return {
      inFlight: this.admission.running,
      queued: this.admission.queued,
      waiting: this.waitingRoom.size,
      finished: this.ledger.rows(),
    };
  }

  local<Request, Response>(
    tally: MethodTally,
    caller: Caller,
    method: LocalMethod<Request, Response>,
  ): handleUnaryCall<Request, Response> {
    return (call, callback) => {
      const facts: CallFacts = {
        listener: caller.listener,
        arrived: performance.now(),
        requestBytes: 0,
        uid: undefined,
      };
      caller.answer(() => {
        try {
          callback(null, method.answer(call.request, userAgent(call)));
          this.ledger.succeeded(tally, facts, 0, undefined);
        } catch (thrown) {
          this.#fail(tally, facts, callback, thrown);
        }
      });
    };
  }

  hsm<Request, Response, Result>(
    tally: MethodTally,
    caller: Caller,
    method: HsmMethod<Request, Response, Result>,
  ): handleUnaryCall<Request, Response> {
    return (call, callback) => {
      const { request } = call;
      const arrived = performance.now();
      const payload = method.take(request);
      const facts: CallFacts = {
        listener: caller.listener,
        arrived,
        requestBytes: payload.length,
        uid: method.uid?.(request),
      };
      let errand: Errand<Result>;
      try {
        if (this.budget.full) throw memoryFull();
        errand = method.errand(request, payload);
      } catch (thrown) {
        payload.fill(0);
        caller.answer(() => this.#fail(tally, facts, callback, thrown));
        return;
      }
      let left = (): void => undefined;
      const run = new Run<Result>(this, caller, errand, clientDeadline(call, arrived), (outcome) => {
        this.#runs.delete(run);
        caller.answer(() => {
          if (outcome instanceof KmsError) this.#fail(tally, facts, callback, outcome);
          else left = this.#succeed(tally, facts, callback, method, errand, outcome, caller);
        });
      });
      // Said after every call, when the last of its answer has left; and when the client gives it up, or grpc-js has itself
      // answered a client's deadline.
      const gone = (): void => {
        left();
        run.left();
        run.abort(goneReason(call));
      };
      this.#runs.add(run);
      call.on('cancelled', gone);
      try {
        run.begin();
      } catch (thrown) {
        run.abort(toKmsError(thrown));
      }
    };
  }

  #succeed<Request, Response, Result>(
    tally: MethodTally,
    facts: CallFacts,
    callback: sendUnaryData<Response>,
    method: HsmMethod<Request, Response, Result>,
    errand: Errand<Result>,
    result: Result,
    caller: Caller,
  ): () => void {
    let answer: ReturnType<typeof method.answer>;
    try {
      answer = method.answer(result);
    } catch (thrown) {
      errand.discard(result);
      this.#fail(tally, facts, callback, thrown);
      return () => undefined;
    }
    const left = caller.answering(answer.responseBytes);
    // Serialised before this returns, so the result may be zeroed after it.
    callback(null, answer.response);
    errand.discard(result);
    this.ledger.succeeded(tally, facts, answer.responseBytes, answer.keyId);
    return left;
  }

  #fail(tally: MethodTally, facts: CallFacts, callback: sendUnaryData<never>, thrown: unknown): void {
    const error = toKmsError(thrown);
    callback(toGrpcStatus(error));
    this.ledger.failed(tally, facts, error);
  }
}

function memoryFull(): KmsError {
  return new KmsError('memory-full', 'the memory for requests and answers of all connections is used up; try again');
}

function userAgent(call: ServerUnaryCall<unknown, unknown>): string {
  return String(call.metadata.get('user-agent')[0] ?? '');
}

/** grpc-js counts a client's deadline in wall-clock milliseconds from the arrival of the headers. */
function clientDeadline(call: ServerUnaryCall<unknown, unknown>, now: number): number {
  const deadline = call.getDeadline();
  return now + (Number(deadline) - Date.now());
}

/** The client's time began before ours: when it gives up at its deadline, we hear of that a little before it. */
const CLOCK_ALLOWANCE_MS = 100;

function goneReason(call: ServerUnaryCall<unknown, unknown>): KmsError {
  return Date.now() + CLOCK_ALLOWANCE_MS >= Number(call.getDeadline())
    ? new KmsError('deadline', "the client's own deadline passed", { clientDeadline: true })
    : new KmsError('cancelled', 'the client gave the call up');
}
