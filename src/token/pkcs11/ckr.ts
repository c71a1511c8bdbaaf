/**
 * PKCS#11 return values as errors, and what they mean for an operation that got one (PKCS#11 v2.40, section 5.1.6;
 * what modules really answer was measured on SoftHSM2, NSS, openCryptoki and tpm2-pkcs11).
 */
export class CkrError extends Error {
  /** The name, e.g. 'CKR_DEVICE_ERROR'; vendor codes as 'CKR_0x80000123'. */
  readonly ckr: string;
  /** The function that answered it, e.g. 'C_Decrypt'. */
  readonly operation: string;

  /** @param message - where it is not the module that answered, e.g. the dynamic linker's words. */
  constructor(operation: string, ckr: string, message = `${operation} answered ${ckr}`) {
    super(message);
    this.name = 'CkrError';
    this.ckr = ckr;
    this.operation = operation;
  }
}

/** Return values that pkcs11js has no name for (PKCS#11 v3.0). */
const LATER_NAMES: Readonly<Record<number, string>> = { 0x42: 'CKR_AEAD_DECRYPT_FAILED' };

/** pkcs11js puts name and number of the return value into the message, in several shapes. */
export function toCkrError(operation: string, thrown: unknown): CkrError {
  if (thrown instanceof CkrError) return thrown;
  const error = thrown as { message?: unknown; code?: unknown };
  const text = typeof error.message === 'string' ? error.message : '';
  const name = /CKR_[A-Z0-9_]+/.exec(text)?.[0];
  const code = typeof error.code === 'number' && error.code > 0 ? error.code : Number(/:(\d+)/.exec(text)?.[1] ?? 0);
  if (name !== undefined && name !== 'CKR_VENDOR_DEFINED') return new CkrError(operation, name);
  const later = LATER_NAMES[code];
  if (later !== undefined) return new CkrError(operation, later);
  if (code > 0) return new CkrError(operation, `CKR_0x${code.toString(16).padStart(8, '0')}`);
  if (name !== undefined) return new CkrError(operation, name);
  const why = text.split('\n')[0]?.slice(0, 120) ?? 'unknown error';
  return new CkrError(operation, 'CKR_FUNCTION_FAILED', `${operation} failed: ${why}`);
}

/**
 * - 'tag': the module says by itself that tag, MAC or padding is wrong.
 * - 'ambiguous': a wrong tag or a device in trouble (SoftHSM2 answers CKR_GENERAL_ERROR for both).
 * - 'limit': too long for this module, in one direction or the other.
 * - 'unable': this key or token cannot do the mechanism.
 * - 'misuse': we called it wrongly.
 * - 'lost': session, login, token or device; everything else, too, since a fault that is not known is not the caller's.
 */
export type CkrClass = 'tag' | 'ambiguous' | 'limit' | 'unable' | 'misuse' | 'lost';

const CLASSES: Readonly<Record<string, CkrClass>> = {
  CKR_ENCRYPTED_DATA_INVALID: 'tag',
  CKR_AEAD_DECRYPT_FAILED: 'tag',
  CKR_SIGNATURE_INVALID: 'tag',
  CKR_GENERAL_ERROR: 'ambiguous',
  CKR_DATA_LEN_RANGE: 'limit',
  CKR_ENCRYPTED_DATA_LEN_RANGE: 'limit',
  CKR_SIGNATURE_LEN_RANGE: 'limit',
  CKR_MECHANISM_INVALID: 'unable',
  CKR_MECHANISM_PARAM_INVALID: 'unable',
  CKR_KEY_TYPE_INCONSISTENT: 'unable',
  CKR_KEY_FUNCTION_NOT_PERMITTED: 'unable',
  CKR_KEY_SIZE_RANGE: 'unable',
  CKR_FUNCTION_NOT_SUPPORTED: 'unable',
  CKR_ARGUMENTS_BAD: 'misuse',
  CKR_BUFFER_TOO_SMALL: 'misuse',
};

export const classifyCkr = (ckr: string): CkrClass => CLASSES[ckr] ?? 'lost';
