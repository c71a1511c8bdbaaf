import { createHash } from 'node:crypto';
import type { PinRecord, TokenIdentity } from './types.ts';

/** What is known of a PIN by the last answer of the token. */
export type Standing = 'good' | 'refused' | 'not-initialized' | 'tried';

/** What the file holds about one (token, PIN). */
export interface PinEntry {
  /** Digest of what names the token, 32 hex digits; empty where an earlier release knew it by its serial number alone. */
  readonly token: string;
  /** For people. */
  readonly serial: string;
  readonly label: string;
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

/** A label has at most 32 bytes; each control character would take six in the file. */
const MOST_LABEL_LENGTH = 32;

/** A PIN that was never tried on that token. */
export const freshEntry = (identity: TokenIdentity, hash: string): PinEntry => ({
  token: digestOf(identity),
  serial: identity.serial,
  label: identity.label.replace(/\p{Cc}/gu, '?').slice(0, MOST_LABEL_LENGTH),
  hash,
  standing: 'tried',
  ckr: undefined,
  at: 0,
  open: 0,
  lost: 0,
  pauseMs: 0,
  triedAgain: false,
});

/** What stands for a token in the file. */
export const digestOf = ({ manufacturer, model, serial, label }: TokenIdentity): string =>
  createHash('sha256')
    .update(JSON.stringify([manufacturer, model, serial, label]))
    .digest('hex')
    .slice(0, 32);

/** Whether an entry is about that token. */
export const isAbout = (entry: PinEntry, identity: TokenIdentity): boolean =>
  entry.token === '' ? entry.serial === identity.serial : entry.token === digestOf(identity);

/** Checks an entry read from the file; undefined when it is none. */
export function parseEntry(value: unknown): PinEntry | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const {
    token = '',
    label = '',
    serial,
    hash,
    standing,
    ckr,
    at,
    open,
    lost,
    pauseMs,
    triedAgain,
  } = value as Record<string, unknown>;
  if (typeof token !== 'string' || !/^([0-9a-f]{32})?$/.test(token) || typeof label !== 'string') return undefined;
  if (typeof serial !== 'string' || typeof hash !== 'string' || !/^[0-9a-f]{64}$/.test(hash)) return undefined;
  if (standing !== 'good' && standing !== 'refused' && standing !== 'not-initialized' && standing !== 'tried')
    return undefined;
  if (ckr !== undefined && typeof ckr !== 'string') return undefined;
  if (!isCount(at) || !isCount(open) || !isCount(lost) || !isCount(pauseMs)) return undefined;
  if (typeof triedAgain !== 'boolean') return undefined;
  return { token, serial, label, hash, standing, ckr, at, open, lost, pauseMs, triedAgain };
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** What an operator may see of an entry. */
export const describeEntry = (entry: PinEntry, all: readonly PinEntry[]): PinRecord => ({
  serial: entry.serial,
  label: entry.label,
  state: entry.open > 0 && entry.standing !== 'refused' ? 'cut-off' : entry.standing,
  ckr: entry.ckr,
  when: new Date(entry.at).toISOString(),
  cutOff: entry.open,
  settled: all.some(
    (other) =>
      other.standing === 'good' &&
      other.open === 0 &&
      other.at > entry.at &&
      isSameToken(other, entry) &&
      other !== entry,
  ),
});

/** Whether two entries are about one token. */
export const isSameToken = (a: PinEntry, b: PinEntry): boolean =>
  a.token === '' || b.token === '' ? a.serial === b.serial : a.token === b.token;
