import { isUtf8 } from 'node:buffer';
import { LockHeldError, lockFile } from '../../lock/index.ts';
import type { FileLock } from '../../lock/index.ts';
import { digestOf, freshEntry } from './entry.ts';
import type { PinEntry } from './entry.ts';
import { loginLockPath, PinMemory, PinMemoryError } from './memory.ts';
import { beginAttempt, endAttempt, jittered, objection, outcomeOf } from './rules.ts';
import type { LoginOutcome, TokenFlags, TokenIdentity } from './types.ts';

/** How soon to come back when another process is logging in, and when `state_dir` is in trouble. Milliseconds. */
const LOCK_PAUSE_MS = 2_000;
const DISK_PAUSE_MS = 10_000;

/** Refusals, by token and hash, that the disk would not take: this process tries to write them again, and not the PIN. */
const unwritten = new Map<string, PinEntry>();

export interface LoginAttempt {
  readonly stateDir: string;
  readonly token: TokenIdentity;
  /** Reads the token's flags afresh. Called under the lock, right before C_Login. Throws as `login` does. */
  readonly flags: () => TokenFlags;
  /** UTF-8. The caller zeroes it. */
  readonly pin: Buffer;
  /** Calls C_Login; throws an error whose `ckr` is the CKR_ name. CKR_USER_ALREADY_LOGGED_IN counts as success. */
  readonly login: (pin: string) => void;
  /** How long another process's login may take. Milliseconds; a command waits 2,000 at most. */
  readonly lockWaitMs: number;
  readonly now?: () => number;
}

/**
 * Calls `login` if the rules let it, at most once, and remembers what came of it. Under `login.lock`: the intent is on
 * the disk before the call, the answer after it. `login` is not called where the intent cannot be written.
 *
 * @throws what `flags` or `login` throw without a `ckr`. Of such a `login` nothing is known, so its intent stays open.
 */
export async function attemptLogin(attempt: LoginAttempt): Promise<LoginOutcome> {
  if (!isUtf8(attempt.pin)) throw new TypeError('the PIN is not UTF-8');
  const lock = await takeLoginLock(attempt);
  if ('kind' in lock) return lock;
  try {
    return await attemptLocked(attempt);
  } finally {
    lock.release();
  }
}

async function takeLoginLock({ stateDir, lockWaitMs }: LoginAttempt): Promise<FileLock | LoginOutcome> {
  try {
    return await lockFile(loginLockPath(stateDir), { waitMs: lockWaitMs });
  } catch (error) {
    if (!(error instanceof LockHeldError)) return diskTrouble(stateDir, error);
    const reason = `another process of the plugin is logging in (${error.message}), and its login may hang`;
    return { kind: 'later', retryAfterMs: jittered(LOCK_PAUSE_MS), reason };
  }
}

async function attemptLocked(attempt: LoginAttempt): Promise<LoginOutcome> {
  const { token, now = Date.now } = attempt;
  const memory = usable(attempt, () => PinMemory.open(attempt.stateDir));
  if (!(memory instanceof PinMemory)) return memory;
  const hash = await memory.hash(token.serial, attempt.pin);
  const owed = unwritten.get(`${digestOf(token)} ${hash}`);
  if (owed?.ckr !== undefined) return remember(memory, owed, owed.ckr);
  const known = memory.find(token, hash);

  const flags = answerOf(() => attempt.flags());
  if (typeof flags === 'string') return { kind: 'failed', ckr: flags };
  const no = objection(token, known, flags, now());
  if (no !== undefined) return no;

  const begun = beginAttempt({ ...freshEntry(token, hash), ...known, token: digestOf(token) }, now());
  const trouble = usable(attempt, () => memory.put(begun));
  if (trouble !== undefined) return trouble;
  const answer = answerOf(() => {
    attempt.login(attempt.pin.toString());
    return 'CKR_OK';
  });
  return remember(memory, endAttempt(begun, answer, now()), answer);
}

function remember(memory: PinMemory, ended: PinEntry, answer: string): LoginOutcome {
  try {
    memory.put(ended);
    unwritten.delete(owedKey(ended));
    return outcomeOf(ended, answer, true);
  } catch (error) {
    const outcome = outcomeOf(ended, answer, false);
    if (outcome.kind === 'refused') unwritten.set(owedKey(ended), ended);
    if (outcome.kind !== 'logged-in') return outcome;
    return { ...outcome, warning: `logged in, but state_dir cannot be written: ${messageOf(error)}` };
  }
}

const owedKey = ({ token, hash }: PinEntry): string => `${token} ${hash}`;

/** What `call` returns, or the CKR_ name with which it fails. */
function answerOf<T>(call: () => T): T | string {
  try {
    return call();
  } catch (error) {
    const ckr = (error as { readonly ckr?: unknown } | undefined)?.ckr;
    if (typeof ckr === 'string') return ckr;
    throw error;
  }
}

/** What `use` of the memory returns, or why there is no login without it. */
function usable<T>({ stateDir }: LoginAttempt, use: () => T): T | LoginOutcome {
  try {
    return use();
  } catch (error) {
    if (!(error instanceof PinMemoryError)) return diskTrouble(stateDir, error);
    return { kind: 'refused', ckr: undefined, remembered: false, reason: error.message };
  }
}

const diskTrouble = (stateDir: string, error: unknown): LoginOutcome => ({
  kind: 'later',
  retryAfterMs: jittered(DISK_PAUSE_MS),
  reason: `no login without a record of it, and state_dir ${stateDir} cannot be used: ${messageOf(error)}`,
});

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
