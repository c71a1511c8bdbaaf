import { awakeMs, CallEnd } from '../call/index.ts';
import { KmsError, toKmsError } from '../errors/index.ts';
import type { Keyring } from '../keyring/index.ts';
import type { Admission, Applicant } from './admission.ts';
import type { Errand } from './errand.ts';
import type { Progress } from './progress.ts';
import type { Listed } from './runs.ts';
import { isOut, type Waiter, type WaitingRoom } from './waiting-room.ts';

/** The connection that a call came on, as far as patience goes. */
export interface Patient {
  /** Until when its calls wait for the token, in `awakeMs()`; in the past when they do not. */
  readonly patientUntil: number;
  /** A call that needed the HSM has succeeded: patience is over. */
  served(): void;
  /** Ends the connection. */
  cut(why: string): void;
}

/** Whose time can be up. */
export interface Timed {
  timeUp(): void;
}

/** What all runs share. */
export interface RunHall {
  readonly keyring: Keyring;
  readonly admission: Admission;
  readonly waitingRoom: WaitingRoom;
  readonly progress: Progress;
  /** A call's own time in milliseconds. */
  readonly callDeadlineMs: number;
  /** Tells a run that its time is up, and catches what that throws. */
  readonly timeUp: (run: Timed) => void;
  /** Shutting down: nobody waits for the token. */
  readonly closing: boolean;
}

/** Least time for an answer to leave, in milliseconds, where the HSM has used the call's own up. */
const LEAST_TO_READ_MS = 1_000;

type State = 'new' | 'queued' | 'running' | 'waiting' | 'answering' | 'done';

/**
 * One call that needs the HSM, from its arrival to its end: a place in flight, a deadline that holds whatever hangs, and
 * the patience of its connection. It ends exactly once, by `end`.
 *
 * new → queued → running → answering → done, and with patience from each of the first three to waiting and back to queued.
 */
export class Run<Result> implements Applicant, Waiter, Listed, Timed {
  place = -1;
  readonly #hall: RunHall;
  readonly #patient: Patient;
  readonly #errand: Errand<Result>;
  readonly #clientDeadline: number;
  readonly #end: (outcome: Result | KmsError) => void;
  #state: State = 'new';
  #callEnd = new CallEnd();
  #timer: NodeJS.Timeout | undefined;
  /** The deadline of the attempt, or the end of the wait; whether it is the client's own. */
  #until = 0;
  #untilClients = false;
  /** When the call's own time began. */
  #began = 0;
  /** Attempts that the keyring has not settled yet, abandoned ones included. */
  #unsettled = 0;
  #lastFailure: KmsError | undefined;

  /** @param clientDeadline - in `performance.now()` milliseconds, or Infinity. */
  constructor(
    hall: RunHall,
    patient: Patient,
    errand: Errand<Result>,
    clientDeadline: number,
    end: (outcome: Result | KmsError) => void,
  ) {
    this.#hall = hall;
    this.#patient = patient;
    this.#errand = errand;
    this.#clientDeadline = clientDeadline;
    this.#end = end;
  }

  begin(): void {
    const { availability, servesCached } = this.#hall.keyring.health();
    if (isOut(availability) && !servesCached && !this.#hall.closing && this.#isPatient()) {
      const refusal = this.#errand.refusal();
      if (refusal === undefined) this.#wait(undefined);
      else this.#finish(refusal);
      return;
    }
    if (!this.#apply()) this.crowdedOut();
  }

  get from(): Patient {
    return this.#patient;
  }

  crowdedOut(): void {
    this.#finish(queueFull(this.#hall.admission.queued));
  }

  admitted(): void {
    this.#state = 'running';
    const signal = this.#callEnd;
    this.#unsettled += 1;
    this.#hall.progress.begun(signal);
    let work: Promise<Result>;
    try {
      work = this.#errand.attempt({ deadline: this.#until, signal });
    } catch (thrown) {
      work = Promise.reject(toKmsError(thrown));
    }
    work.then(
      (result) => this.#settled(signal, result),
      (thrown: unknown) => this.#settled(signal, toKmsError(thrown)),
    );
  }

  retry(): void {
    if (this.#state !== 'waiting') return;
    this.#hall.waitingRoom.leave(this);
    if (this.#callEnd.aborted) this.#callEnd = new CallEnd();
    if (this.#apply()) return;
    // No place to be had now: later, perhaps. It was let in once.
    if (this.#isPatient()) this.#wait(this.#lastFailure);
    else this.#finish(queueFull(this.#hall.admission.queued, this.#lastFailure));
  }

  /** Ends the run now, wherever it is: the client has gone, or the program ends. */
  abort(reason: KmsError): void {
    if (this.#state === 'done' || this.#state === 'answering') return;
    this.#stop(reason);
    this.#finish(reason);
  }

  /** Ends the run if it waits for the token. */
  abortWaiting(reason: KmsError): void {
    if (this.#state === 'waiting') this.abort(reason);
  }

  /** Asks for a place; the call's own time begins. False when the queue is full. */
  #apply(): boolean {
    this.#began = performance.now();
    this.#arm(this.#began + this.#hall.callDeadlineMs);
    this.#state = 'queued';
    return this.#hall.admission.apply(this);
  }

  #settled(signal: CallEnd, outcome: Result | KmsError): void {
    this.#unsettled -= 1;
    this.#hall.progress.ended(signal, !(outcome instanceof KmsError));
    const failed = outcome instanceof KmsError;
    if (this.#state !== 'running' || signal !== this.#callEnd) {
      // Abandoned: the deadline has passed, or the client has gone.
      if (!failed) this.#errand.discard(outcome);
      if (this.#state === 'done') this.#releaseWhenUnused();
      return;
    }
    if (failed) {
      this.#hall.admission.leave(this);
      this.#failed(outcome);
      return;
    }
    this.#patient.served();
    this.#answer(outcome);
  }

  /** The place is free when the answer has left, and the connection ends if it does not: a client that reads nothing would keep it. */
  #answer(result: Result): void {
    this.#state = 'answering';
    clearTimeout(this.#timer);
    const until = Math.max(this.#began + this.#hall.callDeadlineMs, performance.now() + LEAST_TO_READ_MS);
    this.#timer = setTimeout(this.#hall.timeUp, Math.ceil(until - performance.now()), this);
    this.#end(result);
    this.#releaseWhenUnused();
  }

  /** The answer has left, or nobody waits for it any more. */
  left(): void {
    if (this.#state !== 'answering') return;
    this.#state = 'done';
    clearTimeout(this.#timer);
    this.#hall.admission.leave(this);
  }

  #failed(failure: KmsError): void {
    if (this.#mayWait(failure)) this.#wait(failure);
    else this.#finish(failure);
  }

  /** A deadline that passes while the token is out means that the token made it pass. */
  #mayWait(failure: KmsError): boolean {
    if (this.#hall.closing || !this.#isPatient()) return false;
    if (failure.kind !== 'deadline') return failure.waitable;
    return !this.#untilClients && isOut(this.#hall.keyring.health().availability);
  }

  #isPatient(): boolean {
    return awakeMs() < this.#patient.patientUntil;
  }

  #wait(failure: KmsError | undefined): void {
    this.#lastFailure = failure;
    if (!this.#hall.waitingRoom.enter(this)) {
      this.#finish(queueFull(this.#hall.waitingRoom.size, failure));
      return;
    }
    this.#state = 'waiting';
    this.#arm(performance.now() + this.#patient.patientUntil - awakeMs());
  }

  #arm(until: number): void {
    this.#untilClients = this.#clientDeadline < until;
    this.#until = this.#untilClients ? this.#clientDeadline : until;
    clearTimeout(this.#timer);
    // Whole milliseconds: Node keeps timers of equal length in one list, so one for each call costs next to nothing.
    this.#timer = setTimeout(this.#hall.timeUp, Math.max(1, Math.ceil(this.#until - performance.now())), this);
  }

  /** Called by the timer alone. */
  timeUp(): void {
    if (this.#state === 'answering') {
      this.left();
      this.#patient.cut('a client has not read an answer by the deadline of its call');
      return;
    }
    if (this.#state === 'waiting' && !this.#untilClients) {
      this.#patienceOver();
      return;
    }
    const failure = deadlinePassed(this.#state, this.#untilClients, this.#hall.callDeadlineMs);
    this.#stop(failure);
    this.#failed(failure);
  }

  /** One last try where the token is there after all. */
  #patienceOver(): void {
    if (this.#isPatient()) {
      // The processes were stopped meanwhile: nobody could be waited for.
      this.#arm(performance.now() + this.#patient.patientUntil - awakeMs());
      return;
    }
    const { availability, reason } = this.#hall.keyring.health();
    if (!isOut(availability)) {
      this.retry();
      return;
    }
    this.#hall.waitingRoom.leave(this);
    this.#finish(
      this.#lastFailure ??
        this.#errand.overdue() ??
        new KmsError(availability === 'starting' ? 'token-starting' : 'token-away', reason),
    );
  }

  /** Out of queue, place or room; the keyring is told. */
  #stop(reason: KmsError): void {
    const state = this.#state;
    this.#state = 'new';
    if (state === 'queued') this.#hall.admission.withdraw(this);
    if (state === 'waiting') this.#hall.waitingRoom.leave(this);
    this.#callEnd.abort(reason);
    if (state === 'running') this.#hall.admission.leave(this);
  }

  #finish(outcome: Result | KmsError): void {
    this.#state = 'done';
    clearTimeout(this.#timer);
    this.#end(outcome);
    this.#releaseWhenUnused();
  }

  #releaseWhenUnused(): void {
    if (this.#unsettled === 0) this.#errand.release();
  }
}

export function shuttingDown(): KmsError {
  return new KmsError('shutting-down', 'the plugin is shutting down; connect again');
}

function queueFull(length: number, cause?: KmsError): KmsError {
  const why = cause === undefined ? '' : `; they wait because: ${cause.message}`;
  return new KmsError('queue-full', `too many calls at once: ${length} are waiting already (limits.queued)${why}`, {
    queued: length,
  });
}

function deadlinePassed(state: State, clients: boolean, callDeadlineMs: number): KmsError {
  const where = state === 'queued' ? 'before a place in flight was free' : 'before the token answered';
  const whose = clients
    ? "the client's own deadline"
    : `the time for a call (limits.call_deadline, ${callDeadlineMs} ms)`;
  return new KmsError('deadline', `${whose} passed ${where}`, { state, clientDeadline: clients });
}
