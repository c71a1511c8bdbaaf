import type { Call } from '../call/index.ts';
import type { KmsError } from '../errors/index.ts';
import type { KeyReport } from './report.ts';

export interface EncryptResult {
  /** Whole ciphertext as docs/ciphertext.md lays it out. */
  readonly ciphertext: Buffer;
  /** Key id of the key that encrypted, 32 hex digits. */
  readonly keyId: string;
}

export interface DecryptResult {
  /** The caller zeroes it when it has been sent. */
  readonly plaintext: Buffer;
  readonly keyId: string;
}

/** 'starting': the token has not been reached yet. 'away': it was, or could not be. 'refused': the PIN must not be tried again. */
export type Availability = 'starting' | 'ready' | 'away' | 'refused';

/** What the keyring knows without asking the HSM; cheap, for Status, health and admission. */
export interface KeyringHealth {
  readonly availability: Availability;
  /** True when Encrypt and Decrypt work as far as is known: token ready, active key found and able. */
  readonly ok: boolean;
  /** Data keys are kept in this process, so that some calls succeed while the token is away. */
  readonly servesCached: boolean;
  /** In the operator's words; 'ok' when ok. */
  readonly reason: string;
  /** Key id that Encrypt writes; from state_dir's memory while the token has not been reached; undefined when never seen. */
  readonly activeKeyId: string | undefined;
  /** True when a search that was complete has not found the active key: what is encrypted now could perhaps not be read again. */
  readonly activeKeyGone: boolean;
}

/**
 * Which key encrypts, which keys can decrypt, which key made this ciphertext. The door of the keyring room: all that the
 * gRPC services know.
 *
 * Errors are `KmsError`s; their kinds decide the status (contract in docs/status-codes.md).
 */
export interface Keyring {
  /** Encrypts with the active key. A plaintext of 0 bytes is a value like any other. */
  encrypt(plaintext: Buffer, call: Call): Promise<EncryptResult>;
  /**
   * Decrypts with the key that the header names.
   * @param expectedKeyId - v2's key_id: checked against the header before the HSM is asked ('key-id-mismatch').
   */
  decrypt(ciphertext: Buffer, call: Call, expectedKeyId?: string): Promise<DecryptResult>;
  /**
   * The failure that `decrypt` would end in as far as memory alone can tell: everything up to 'key-retired' in the order of
   * docs/status-codes.md (that one only once the listed keys were found), then 'key-id-mismatch'. Undefined when only the HSM can tell. Asked before a call waits for an
   * absent token, so that bytes that are not ours are refused at once even then.
   */
  refusal(ciphertext: Buffer, expectedKeyId?: string): KmsError | undefined;
  /**
   * 'retired-undecided' where that keeps the ciphertext from an answer while the token is out. Asked when a call that
   * `refusal` let wait can wait no longer.
   */
  undecided(ciphertext: Buffer): KmsError | undefined;
  health(): KeyringHealth;
  /** Calls back after every change of `health()` or of the keys found; returns the function that ends it. */
  onChange(listener: () => void): () => void;
  /** From memory. */
  keys(): readonly KeyReport[];
}
