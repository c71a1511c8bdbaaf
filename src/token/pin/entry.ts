import type { PinRecord } from './types.ts';

/** What is known of a PIN by the last answer of the token. */
export type Standing = 'good' | 'refused' | 'not-initialized' | 'tried';

/** What the file holds about one (token serial, PIN). */
export interface PinEntry {
  readonly serial: string;
  /** Salted scrypt hash of PIN and serial, hex. */
  readonly hash: string;
  readonly standing: Standing;
  /** The last answer other than success. */
  readonly ckr: string | undefined;
  /** Epoch milliseconds of the last intent or answer. */
  readonly at: number;
  /** Intents in a row without an answer. */
  readonly open: number;
  /** Intents that never got an answer since the PIN was last good: each may have been a refusal that nobody saw. */
  readonly lost: number;
  /** Pause in milliseconds before the next attempt while `open` is not 0, counted from `at`. */
  readonly pauseMs: number;
  /** 'not-initialized' was the answer although the token had shown CKF_USER_PIN_INITIALIZED, and this was the one more try. */
  readonly triedAgain: boolean;
}

/** A PIN that was never tried on that token. */
export const freshEntry = (serial: string, hash: string): PinEntry => ({
  serial,
  hash,
  standing: 'tried',
  ckr: undefined,
  at: 0,
  open: 0,
  lost: 0,
  pauseMs: 0,
  triedAgain: false,
});

/** Checks an entry read from the file; undefined when it is none. */
export function parseEntry(value: unknown): PinEntry | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { serial, hash, standing, ckr, at, open, lost, pauseMs, triedAgain } = value as Record<string, unknown>;
  if (typeof serial !== 'string' || typeof hash !== 'string' || !/^[0-9a-f]{64}$/.test(hash)) return undefined;
  if (standing !== 'good' && standing !== 'refused' && standing !== 'not-initialized' && standing !== 'tried')
    return undefined;
  if (ckr !== undefined && typeof ckr !== 'string') return undefined;
  if (!isCount(at) || !isCount(open) || !isCount(lost) || !isCount(pauseMs)) return undefined;
  if (typeof triedAgain !== 'boolean') return undefined;
  return { serial, hash, standing, ckr, at, open, lost, pauseMs, triedAgain };
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** What an operator may see of an entry. */
export const describeEntry = (entry: PinEntry): PinRecord => ({
  serial: entry.serial,
  state: entry.open > 0 && entry.standing !== 'refused' ? 'cut-off' : entry.standing,
  ckr: entry.ckr,
  when: new Date(entry.at).toISOString(),
  cutOff: entry.open,
});
