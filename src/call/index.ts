import { KmsError } from '../errors/index.ts';
import { CallEnd, type CallSignal, reasonOf } from './end.ts';

export { AwakeClock, awakeMs } from './awake.ts';
export { CallEnd, type CallSignal, reasonOf };

/**
 * One caller's request on its way through the rooms: until when it may take, and whether anybody still waits for it.
 * Times are milliseconds of `performance.now()`.
 */
export interface Call {
  /** The moment at which the call fails with DEADLINE_EXCEEDED, whatever hangs. */
  readonly deadline: number;
  /** Aborted when the deadline passes (reason: KmsError 'deadline') or the client goes away (reason: KmsError 'cancelled'). */
  readonly signal: CallSignal;
}

/** A call that the program makes for itself (probes, searches for keys), with its own time limit in milliseconds. */
export function ownCall(milliseconds: number): Call {
  const signal = new CallEnd();
  const timer = setTimeout(
    () => signal.abort(new KmsError('deadline', `no answer within ${milliseconds} ms`)),
    milliseconds,
  );
  timer.unref();
  return { deadline: performance.now() + milliseconds, signal };
}

/** Settles as `work` does, or rejects with the signal's reason as soon as it is aborted. `work` itself goes on. */
export function abandonable<T>(work: Promise<T>, signal: CallSignal): Promise<T> {
  if (signal.aborted) {
    // Nobody else may be waiting for it, and its failure must not end the program.
    work.catch(() => undefined);
    return Promise.reject(reasonOf(signal));
  }
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(reasonOf(signal));
    signal.addEventListener('abort', onAbort);
    const settled = (): void => {
      signal.removeEventListener('abort', onAbort);
      // Ends as it has ended.
      resolve(work);
    };
    work.then(settled, settled);
  });
}
