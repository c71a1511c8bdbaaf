import type { Call } from '../call/index.ts';
import { KmsError } from '../errors/index.ts';
import type { DecryptResult, EncryptResult, Keyring } from '../keyring/types.ts';

/** What one call wants of the keyring, and who looks after its buffers. */
export interface Errand<Result> {
  /** What can be said against the request without the HSM. */
  refusal(): KmsError | undefined;
  attempt(call: Call): Promise<Result>;
  /** Zeroes a result that was given out, or that nobody waits for any more. */
  discard(result: Result): void;
  /** Called once, when neither the caller nor the keyring uses the request any more. */
  release(): void;
}

/**
 * @param plaintext zeroed on release.
 * @param limit of the plaintext, in bytes.
 * @throws KmsError 'value-too-large'
 */
export function encryptErrand(keyring: Keyring, plaintext: Buffer, limit: number): Errand<EncryptResult> {
  if (plaintext.length > limit) {
    throw new KmsError(
      'value-too-large',
      `a value of ${plaintext.length} bytes is above the limit of ${limit} bytes (limits.value)`,
      { bytes: plaintext.length, limit },
    );
  }
  return {
    refusal: () => undefined,
    attempt: (call) => keyring.encrypt(plaintext, call),
    discard: () => undefined,
    release: () => {
      plaintext.fill(0);
    },
  };
}

/** @param expectedKeyId v2's key_id. */
export function decryptErrand(keyring: Keyring, ciphertext: Buffer, expectedKeyId?: string): Errand<DecryptResult> {
  return {
    refusal: () => keyring.refusal(ciphertext, expectedKeyId),
    attempt: (call) => keyring.decrypt(ciphertext, call, expectedKeyId),
    discard: (result) => {
      result.plaintext.fill(0);
    },
    release: () => undefined,
  };
}
