/** What names a token: all four together, since some vendors show one serial number always. As in CK_TOKEN_INFO, without padding. */
export interface TokenIdentity {
  readonly manufacturer: string;
  readonly model: string;
  readonly serial: string;
  readonly label: string;
}

/** What a token's flags say about its user PIN (PKCS#11 v3.0, CK_TOKEN_INFO). Vendors may set none of them. */
export interface TokenFlags {
  /** CKF_USER_PIN_COUNT_LOW: a wrong PIN was given since the last login that worked. */
  readonly countLow: boolean;
  /** CKF_USER_PIN_FINAL_TRY: one more wrong PIN locks the token, or erases the partition. */
  readonly finalTry: boolean;
  /** CKF_USER_PIN_LOCKED. */
  readonly locked: boolean;
  /** CKF_USER_PIN_INITIALIZED. */
  readonly initialized: boolean;
  /** CKF_PROTECTED_AUTHENTICATION_PATH, unless `pin_despite_flag`: the token counts a PIN that it is given as wrong. */
  readonly protectedPath: boolean;
}

/** How an attempt to log in ended. `reason` is for operators: what is wrong, with which token, and the mend. */
export type LoginOutcome =
  /** `warning`: the login is good, but could not be remembered. */
  | { readonly kind: 'logged-in'; readonly warning?: string }
  /**
   * Not again until `kms-plugin pin clear`, or another PIN. `ckr`: the refusal, of now or remembered; undefined when there
   * is none: two attempts were cut off, or the PIN memory is damaged or full. `remembered`: the disk has it, so that no
   * restart asks the token again.
   */
  | {
      readonly kind: 'refused';
      readonly ckr: string | undefined;
      readonly remembered: boolean;
      readonly reason: string;
    }
  /** CKR_USER_PIN_NOT_INITIALIZED; tried once more when the token shows CKF_USER_PIN_INITIALIZED. */
  | { readonly kind: 'not-initialized'; readonly reason: string }
  /** C_Login was not called; ask again after `retryAfterMs` milliseconds. */
  | { readonly kind: 'later'; readonly retryAfterMs: number; readonly reason: string }
  /** C_Login, or reading the flags, failed in a way that says nothing about the PIN (CKR_DEVICE_ERROR …). */
  | { readonly kind: 'failed'; readonly ckr: string };

/**
 * - `good`: the last PIN with which a login to this token worked.
 * - `refused`: never tried again.
 * - `not-initialized`: the token had no user PIN.
 * - `cut-off`: C_Login was called and the process ended before the answer.
 * - `tried`: none of these; C_Login failed for another reason, or another PIN has become the good one.
 */
export type PinState = 'good' | 'refused' | 'not-initialized' | 'cut-off' | 'tried';

/** What is remembered about one PIN of one token. The PIN and its hash stay out of it. */
export interface PinRecord {
  readonly serial: string;
  /** The token's label; empty for what an earlier release remembered. */
  readonly label: string;
  readonly state: PinState;
  /** The last answer other than success, as a CKR_ name. */
  readonly ckr: string | undefined;
  /** ISO time of the last attempt or answer. */
  readonly when: string;
  /** Attempts in a row that were cut off. */
  readonly cutOff: number;
  /** Another PIN has logged in to the same token since: what became of this one troubles nobody any more. */
  readonly settled: boolean;
}
