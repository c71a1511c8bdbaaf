import type { Call } from '../../../src/call/index.ts';
import { KmsError } from '../../../src/errors/index.ts';
import type { Availability, DecryptResult, EncryptResult, Keyring, KeyringHealth } from '../../../src/keyring/types.ts';
import type { KeyReport } from '../../../src/keyring/report.ts';

export const KEY_ID = '00112233445566778899aabbccddeeff';
const MAGIC = Buffer.from('8b48534d4b4d530a', 'hex');
const HEADER = MAGIC.length + 16;

/** A keyring without an HSM: "encrypts" by turning bits over, and does what a test tells it to. */
export class FakeKeyring implements Keyring {
  availability: Availability = 'ready';
  servesCached = false;
  activeKeyId: string | undefined = KEY_ID;
  activeKeyGone = false;
  /** Bytes that a ciphertext has beyond header and plaintext. */
  extra = 28;
  /** Runs before every operation: may throw, wait, or never end. */
  before: (call: Call, operation: 'encrypt' | 'decrypt') => Promise<void> | void = () => undefined;
  readonly calls: { operation: 'encrypt' | 'decrypt'; call: Call; bytes: number }[] = [];
  /** Results as they were handed out, to see what became of their buffers. */
  readonly plaintexts: Buffer[] = [];
  readonly #listeners = new Set<() => void>();

  async encrypt(plaintext: Buffer, call: Call): Promise<EncryptResult> {
    this.calls.push({ operation: 'encrypt', call, bytes: plaintext.length });
    await this.before(call, 'encrypt');
    const sealed = Buffer.from(plaintext.map((byte) => byte ^ 0xff));
    const keyId = Buffer.from(KEY_ID, 'hex');
    return { ciphertext: Buffer.concat([MAGIC, keyId, sealed, Buffer.alloc(this.extra)]), keyId: KEY_ID };
  }

  async decrypt(ciphertext: Buffer, call: Call, expectedKeyId?: string): Promise<DecryptResult> {
    this.calls.push({ operation: 'decrypt', call, bytes: ciphertext.length });
    const refusal = this.refusal(ciphertext, expectedKeyId);
    if (refusal !== undefined) throw refusal;
    await this.before(call, 'decrypt');
    const sealed = ciphertext.subarray(HEADER, ciphertext.length - this.extra);
    const plaintext = Buffer.from(sealed.map((byte) => byte ^ 0xff));
    this.plaintexts.push(plaintext);
    return { plaintext, keyId: KEY_ID };
  }

  refusal(ciphertext: Buffer, expectedKeyId?: string): KmsError | undefined {
    if (!ciphertext.subarray(0, MAGIC.length).equals(MAGIC)) {
      return new KmsError('foreign-ciphertext', 'not a ciphertext of this plugin');
    }
    const keyId = ciphertext.subarray(MAGIC.length, HEADER).toString('hex');
    if (expectedKeyId !== undefined && expectedKeyId !== keyId) {
      return new KmsError('key-id-mismatch', 'the key_id is not that of the ciphertext');
    }
    return undefined;
  }

  undecided(): undefined {
    return undefined;
  }

  health(): KeyringHealth {
    const ok = this.availability === 'ready';
    return {
      availability: this.availability,
      servesCached: this.servesCached,
      ok,
      reason: ok ? 'ok' : `partition test: the token is ${this.availability}`,
      activeKeyId: this.activeKeyId,
      activeKeyGone: this.activeKeyGone,
    };
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  keys(): readonly KeyReport[] {
    return [];
  }

  become(availability: Availability): void {
    this.availability = availability;
    this.changed();
  }

  changed(): void {
    for (const listener of [...this.#listeners]) listener();
  }

  /** Fails every operation until the token is ready, as the real one does. */
  failWhileAway(): void {
    this.before = () => {
      if (this.availability !== 'ready') throw new KmsError('token-away', 'partition test: token away (CKR_TEST)');
    };
  }
}
