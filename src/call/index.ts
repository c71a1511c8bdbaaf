import { KmsError } from '../errors/index.ts';

/**
 * One caller's request on its way through the rooms: until when it may take, and whether anybody still waits for it.
 * Times are milliseconds of `performance.now()`.
 */
export interface Call {
  /** The moment at which the call fails with DEADLINE_EXCEEDED, whatever hangs. */
  readonly deadline: number;
  /** Aborted when the deadline passes (reason: KmsError 'deadline') or the client goes away (reason: KmsError 'cancelled'). */
  readonly signal: AbortSignal;
}

/** A call that the program makes for itself (probes, searches for keys), with its own time limit in milliseconds. */
export function ownCall(milliseconds: number): Call {
  const controller = new AbortController();
  const timer = setTimeout(
    () => controller.abort(new KmsError('deadline', `no answer within ${milliseconds} ms`)),
    milliseconds,
  );
  timer.unref();
  return { deadline: performance.now() + milliseconds, signal: controller.signal };
}

/** Settles as `work` does, or rejects with the signal's reason as soon as it is aborted. `work` itself goes on. */
export function abandonable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    // Nobody else may be waiting for it, and its failure must not end the program.
    work.catch(() => undefined);
    return Promise.reject(signal.reason as Error);
  }
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
