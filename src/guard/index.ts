import { FAILURES } from '../errors/index.ts';
import type { Log } from '../log/index.ts';

/**
 * A handler of requests, timers or events that cannot end the process: what it throws, or what its promise rejects with,
 * is our own fault, goes into the log as KMS-9001, and the service goes on. An exception that nobody catches ends the process.
 *
 * @param what - it was doing, for the log, such as "an answer of the health port".
 * @param otherwise - called with what was thrown, after it was logged.
 */
export function guarded<Arguments extends readonly unknown[]>(
  log: Log,
  what: string,
  handler: (...given: Arguments) => unknown,
  otherwise: (...given: Arguments) => void = () => undefined,
): (...given: Arguments) => void {
  const failed = (error: unknown, given: Arguments): void => {
    log.error(`internal error in ${what}; the service goes on`, { code: FAILURES.internal.code, kind: what, error });
    otherwise(...given);
  };
  return (...given) => {
    try {
      const done = handler(...given);
      if (done instanceof Promise) done.catch((error: unknown) => failed(error, given));
    } catch (error) {
      failed(error, given);
    }
  };
}
