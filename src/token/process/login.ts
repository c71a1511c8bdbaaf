import { LockHeldError, lockFile } from '../../lock/index.ts';
import { attemptLogin, loginLockPath, readPinFile, type LoginOutcome, type TokenFlags } from '../pin/index.ts';
import type { TokenConfig } from '../../config/index.ts';
import type { PinWatch } from './pin-watch.ts';
import { CkrError, constants, type Handle, type Pkcs11Module, type TokenFacts } from '../pkcs11/module.ts';

/** How long another process's C_Login is waited for, in milliseconds: longer than a vendor's slow login. */
const LOCK_WAIT_MS = 20_000;

/** Logging in is out of the question for now or for good; never thrown for a token that is merely away. */
export class LoginError extends Error {
  readonly outcome: Exclude<LoginOutcome, { kind: 'logged-in' | 'failed' }>;

  constructor(token: TokenFacts, outcome: Exclude<LoginOutcome, { kind: 'logged-in' | 'failed' }>) {
    // Most reasons name the serial number themselves.
    super(`partition "${token.label}": ${outcome.reason}`);
    this.name = 'LoginError';
    this.outcome = outcome;
  }
}

/**
 * Logs the user in on a session, by the PIN memory's rules: a PIN that was refused is never tried again.
 *
 * @param watch - is told of the PIN that has logged in.
 * @returns a warning for the log, if any. Throws LoginError, CkrError; PinFileError when the PIN file cannot be read.
 */
export async function logIn(
  module: Pkcs11Module,
  config: TokenConfig,
  stateDir: string,
  token: TokenFacts,
  session: Handle,
  watch: PinWatch | undefined,
): Promise<string | undefined> {
  if (config.login === 'none' || config.pinFile === undefined || module.loggedIn(session)) return undefined;
  const userType = config.login === 'user' ? constants.CKU_USER : config.login;
  const pin = readPinFile(config.pinFile, config.pinFileNewline);
  try {
    const outcome = await attemptLogin({
      stateDir,
      token,
      flags: () => pinFlags(module.token(token.slot).flags, config),
      pin,
      login: (text) => module.login(session, userType, text),
      lockWaitMs: LOCK_WAIT_MS,
    });
    if (outcome.kind === 'logged-in') {
      watch?.loggedIn(token, pin);
      return outcome.warning;
    }
    if (outcome.kind === 'failed') throw new CkrError('C_Login', outcome.ckr);
    throw new LoginError(token, outcome);
  } finally {
    pin.fill(0);
  }
}

const pinFlags = (flags: number, { pinDespiteFlag }: TokenConfig): TokenFlags => ({
  countLow: (flags & constants.CKF_USER_PIN_COUNT_LOW) !== 0,
  finalTry: (flags & constants.CKF_USER_PIN_FINAL_TRY) !== 0,
  locked: (flags & constants.CKF_USER_PIN_LOCKED) !== 0,
  initialized: (flags & constants.CKF_USER_PIN_INITIALIZED) !== 0,
  protectedPath: (flags & constants.CKF_PROTECTED_AUTHENTICATION_PATH) !== 0 && !pinDespiteFlag,
});

/**
 * Runs `work` alone among the processes of ours on this host, and while none is inside C_Login: SoftHSM2 writes its token's
 * file anew there, and a process that reads it at that moment finds a token without keys. Where the lock cannot be had the work is done all the same.
 */
export async function outsideLogins<T>(stateDir: string, work: () => T | Promise<T>): Promise<T> {
  const lock = await lockFile(loginLockPath(stateDir), { waitMs: LOCK_WAIT_MS }).catch((error: unknown) => {
    // Somebody hangs in a login, or state_dir is in trouble, which the login itself will say.
    if (error instanceof LockHeldError || (error as NodeJS.ErrnoException).code !== undefined) return undefined;
    throw error;
  });
  try {
    return await work();
  } finally {
    lock?.release();
  }
}
