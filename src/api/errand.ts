import type { Call } from '../call/index.ts';
import { KmsError } from '../errors/index.ts';
import type { DecryptResult, EncryptResult, Keyring } from '../keyring/index.ts';

/** What one call wants of the keyring, and who looks after its buffers. */
export interface Errand<Result> {
  /** What can be said against the request without the HSM. */
  refusal(): KmsError | undefined;
  /** What it ends in when it can wait no longer for the token; undefined when that is the token's absence. */
  overdue(): KmsError | undefined;
  attempt(call: Call): Promise<Result>;
  /** Zeroes a result that was given out, or that nobody waits for any more. */
  discard(result: Result): void;
  /** Called once, when neither the caller nor the keyring uses the request any more. */
  release(): void;
}

export class EncryptErrand implements Errand<EncryptResult> {
  readonly #keyring: Keyring;
  readonly #plaintext: Buffer;

  /**
   * @param plaintext - zeroed on release.
   * @param limit - of the plaintext, in bytes. Throws KmsError 'value-too-large' above it.
   */
  constructor(keyring: Keyring, plaintext: Buffer, limit: number) {
    if (plaintext.length > limit) {
      throw new KmsError(
        'value-too-large',
        `a value of ${plaintext.length} bytes is above the limit of ${limit} bytes (limits.value)`,
        { bytes: plaintext.length, limit },
      );
    }
    this.#keyring = keyring;
    this.#plaintext = plaintext;
  }

  refusal(): undefined {
    return undefined;
  }

  overdue(): undefined {
    return undefined;
  }

  attempt(call: Call): Promise<EncryptResult> {
    return this.#keyring.encrypt(this.#plaintext, call);
  }

  discard(): void {
    // A ciphertext is no secret.
  }

  release(): void {
    this.#plaintext.fill(0);
  }
}

export class DecryptErrand implements Errand<DecryptResult> {
  readonly #keyring: Keyring;
  readonly #ciphertext: Buffer;
  readonly #expectedKeyId: string | undefined;

  /** @param expectedKeyId - v2's key_id. */
  constructor(keyring: Keyring, ciphertext: Buffer, expectedKeyId?: string) {
    this.#keyring = keyring;
    this.#ciphertext = ciphertext;
    this.#expectedKeyId = expectedKeyId;
  }

  refusal(): KmsError | undefined {
    return this.#keyring.refusal(this.#ciphertext, this.#expectedKeyId);
  }

  overdue(): KmsError | undefined {
    return this.#keyring.undecided(this.#ciphertext);
  }

  attempt(call: Call): Promise<DecryptResult> {
    return this.#keyring.decrypt(this.#ciphertext, call, this.#expectedKeyId);
  }

  discard(result: DecryptResult): void {
    result.plaintext.fill(0);
  }

  release(): void {
    // A ciphertext is no secret.
  }
}
