import { ConfigError } from '../config/index.ts';
import { ControlRefusedError, ServiceUnavailableError } from '../control/index.ts';
import { FAILURES, KmsError } from '../errors/index.ts';
import { CommandError, EXIT, UsageError } from './command.ts';

/** What went wrong, for people, and the exit status that says so to scripts. */
export function explain(error: unknown): { readonly message: string; readonly exit: number } {
  if (error instanceof UsageError) return { message: error.message, exit: EXIT.usage };
  if (error instanceof ConfigError) return { message: error.message, exit: EXIT.config };
  if (error instanceof ServiceUnavailableError) return { message: error.message, exit: EXIT.unavailable };
  if (error instanceof CommandError) return { message: error.message, exit: error.exit };
  if (error instanceof ControlRefusedError || error instanceof KmsError) {
    const code = error.code === undefined ? '' : ` (${error.code})`;
    return { message: `${error.message}${code}`, exit: EXIT.failure };
  }
  if (error instanceof Error && EXPECTED.has(error.name)) return { message: error.message, exit: EXIT.failure };
  const text = error instanceof Error ? error.message : String(error);
  return { message: `internal error: ${text} (${FAILURES.internal.code})`, exit: EXIT.failure };
}

/** Errors of rooms that not every verb loads, whose messages are made for operators. */
const EXPECTED = new Set([
  'StartError',
  'SocketError',
  'LockHeldError',
  'LockFileError',
  'PinMemoryError',
  'RoundTripError',
]);
