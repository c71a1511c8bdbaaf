import { randomInt } from 'node:crypto';
import type { PinEntry } from './entry.ts';
import type { LoginOutcome, TokenFlags, TokenIdentity } from './types.ts';

/*
 * When C_Login may be called. A wrong PIN costs: Luna locks or erases a partition after 1 to 10 of them, and a supervisor
 * restarts a failing job every half minute. So a PIN is refused at most once, whatever restarts, hangs or is killed.
 */

/** Answers that refuse the PIN (PKCS#11 v3.0, 5.6.8 and 5.1.6). */
const REFUSALS: ReadonlySet<string> = new Set([
  'CKR_PIN_INCORRECT',
  'CKR_PIN_LOCKED',
  'CKR_PIN_EXPIRED',
  'CKR_PIN_INVALID',
  'CKR_PIN_LEN_RANGE',
]);

const NOT_INITIALIZED = 'CKR_USER_PIN_NOT_INITIALIZED';

/** Intents without an answer after which a PIN that was never good is given up. */
const MOST_LOST = 2;

/** Pauses between attempts that are cut off, in milliseconds: they double from the first to the longest. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 300_000;

/** How often to look at the token's flags again while they forbid a login: looking costs no attempt. */
const FLAGS_PAUSE_MS = 60_000;

/** Between half of `milliseconds` and all of it, so that the instances of a deployment drift apart. */
export const jittered = (milliseconds: number): number => randomInt(Math.floor(milliseconds / 2), milliseconds + 1);

/** Whether a PIN is not tried any more, whatever the token's flags say. */
export const isGivenUp = ({ standing, lost }: PinEntry): boolean =>
  standing === 'refused' || (standing !== 'good' && lost >= MOST_LOST);

/** Why C_Login must not be called now; undefined when it may. `entry`: what is remembered of the PIN, if anything. */
export function objection(
  identity: TokenIdentity,
  entry: PinEntry | undefined,
  flags: TokenFlags,
  now: number,
): LoginOutcome | undefined {
  const token = `the token with serial number ${identity.serial}`;
  if (flags.protectedPath) {
    return lookAgain(
      `${token} takes its PIN on a device of its own (CKF_PROTECTED_AUTHENTICATION_PATH) and would count one from pin_file as ` +
        'wrong, so there is no login: PIN pads are not supported. Where a PIN file is right all the same, as on Luna with a ' +
        'challenge secret, set token.pin_despite_flag: true and restart',
    );
  }
  if (entry?.standing === 'refused') return refusal(entry, true);
  if (entry !== undefined && isGivenUp(entry)) {
    return {
      kind: 'refused',
      ckr: undefined,
      remembered: true,
      reason:
        `${token} was given this PIN ${entry.lost} times and the process ended before its answer, so each may have been a ` +
        'refusal; the PIN is not tried again. See why C_Login hangs or crashes, then run "kms-plugin pin clear"',
    };
  }
  if (flags.locked) {
    return lookAgain(`${token} has locked its user PIN; the HSM's security officer has to unlock it`);
  }
  if (flags.finalTry) {
    return lookAgain(
      `${token} allows one last try of its user PIN, which is left to a person: log in with the HSM's own tool, ` +
        'or have its security officer reset the count',
    );
  }
  if (entry?.standing === 'not-initialized' && (!flags.initialized || entry.triedAgain)) return notInitialized(entry);
  if (flags.countLow && entry !== undefined && entry.standing !== 'good') {
    return lookAgain(
      `${token} has counted wrong PINs, and this PIN was tried before and never proved good. Log in once with the HSM's ` +
        'own tool, or check pin_file and run "kms-plugin pin clear"',
    );
  }
  return entry === undefined ? undefined : pause(token, entry, now);
}

/** The entry to write before C_Login. */
export function beginAttempt(entry: PinEntry, now: number): PinEntry {
  const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(entry.open, 10));
  return { ...entry, at: now, open: entry.open + 1, lost: entry.lost + 1, pauseMs: jittered(longest) };
}

/** The entry to write after C_Login. `begun`: what beginAttempt gave; `answer`: a CKR_ name, CKR_OK for success. */
export function endAttempt(begun: PinEntry, answer: string, now: number): PinEntry {
  const closed = { ...begun, at: now, open: 0, lost: begun.lost - 1, pauseMs: 0 };
  if (answer === 'CKR_OK') return { ...closed, standing: 'good', ckr: undefined, lost: 0, triedAgain: false };
  // The token did not look at the PIN, so it proves nothing.
  if (answer === 'CKR_USER_ALREADY_LOGGED_IN') return closed;
  if (REFUSALS.has(answer)) return { ...closed, standing: 'refused', ckr: answer };
  if (answer === NOT_INITIALIZED) {
    const triedAgain = begun.standing === 'not-initialized';
    return { ...closed, standing: 'not-initialized', ckr: answer, triedAgain };
  }
  return { ...closed, ckr: answer };
}

/** What the caller of an attempt is told; `remembered`: whether the entry could be written. */
export function outcomeOf(entry: PinEntry, answer: string, remembered: boolean): LoginOutcome {
  if (REFUSALS.has(answer)) return refusal(entry, remembered);
  if (answer === NOT_INITIALIZED) return notInitialized(entry);
  if (answer !== 'CKR_OK' && answer !== 'CKR_USER_ALREADY_LOGGED_IN') return { kind: 'failed', ckr: answer };
  return { kind: 'logged-in' };
}

function refusal(entry: PinEntry, remembered: boolean): LoginOutcome {
  const mend =
    entry.ckr === 'CKR_PIN_LOCKED'
      ? `Have the HSM's security officer unlock it, then run "kms-plugin pin clear"`
      : entry.ckr === 'CKR_PIN_EXPIRED'
        ? 'Change the PIN on the token and in pin_file'
        : 'Put the right PIN into pin_file; if this one is right by now, run "kms-plugin pin clear"';
  const again = remembered
    ? 'it is not tried again, since wrong PINs lock a token'
    : 'this could NOT be written to state_dir: stop the plugin until it can, or a restart tries the PIN again';
  return {
    kind: 'refused',
    ckr: entry.ckr,
    remembered,
    reason:
      `the token with serial number ${entry.serial} refused the PIN with ${entry.ckr ?? 'an unknown code'} at ` +
      `${new Date(entry.at).toISOString()}; ${again}. ${mend}`,
  };
}

function notInitialized(entry: PinEntry): LoginOutcome {
  const mend = entry.triedAgain
    ? 'although it shows one: set it with the tool of the HSM, then run "kms-plugin pin clear"'
    : 'yet: set it with the tool of the HSM, and the plugin logs in once the token shows CKF_USER_PIN_INITIALIZED, or after "kms-plugin pin clear"';
  return {
    kind: 'not-initialized',
    reason: `the token with serial number ${entry.serial} says that it has no user PIN (${NOT_INITIALIZED}) ${mend}`,
  };
}

const lookAgain = (reason: string): LoginOutcome => ({ kind: 'later', retryAfterMs: jittered(FLAGS_PAUSE_MS), reason });

/** A clock that went back does not prolong a pause. */
function pause(token: string, entry: PinEntry, now: number): LoginOutcome | undefined {
  const left = entry.at + entry.pauseMs - now;
  if (entry.open === 0 || left <= 0 || now < entry.at) return undefined;
  return {
    kind: 'later',
    retryAfterMs: left,
    reason: `the last ${entry.open} logins to ${token} were cut off before its answer; the next is due in ${Math.ceil(left / 1000)} s`,
  };
}
