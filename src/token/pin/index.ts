/**
 * The PIN: its file, the memory of what tokens answered to it, and the rules when C_Login may be called. At most one
 * refused C_Login for each (token, PIN), over restarts, kills and processes.
 */
export { attemptLogin } from './attempt.ts';
export type { LoginAttempt } from './attempt.ts';
export { clearPins, describePins, isRefused } from './manage.ts';
export { loginLockPath, PinMemoryError } from './memory.ts';
export { PinFileError, readPinFile } from './pin-file.ts';
export type { LoginOutcome, PinRecord, PinState, TokenFlags, TokenIdentity } from './types.ts';
