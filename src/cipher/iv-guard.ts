import { KmsError } from '../errors/index.ts';

/** How many of a key's last IVs are remembered. */
const REMEMBERED = 1024;
const IV_BYTES = { 1: 12, 2: 16, 3: 16 } as const;

/**
 * Looks at IVs that an HSM made: one that is zero, or equal to one of that key's last 1,024, means that every value under
 * this key is encrypted with the same key stream, so the ciphertext must not leave.
 */
export class IvGuard {
  readonly #seen = new Map<string, { readonly ring: string[]; readonly set: Set<string>; next: number }>();

  /** Throws KmsError 'iv-refused'. */
  check(keyId: string, scheme: 1 | 2 | 3, body: Buffer): void {
    const bytes = IV_BYTES[scheme];
    const iv = body.subarray(0, bytes);
    if (iv.length !== bytes || iv.every((byte) => byte === 0)) {
      throw new KmsError(
        'iv-refused',
        `the HSM made a ciphertext with an IV of zeros under key ${keyId}; it was thrown away. Set token.profile to the profile of this HSM`,
        { keyId },
      );
    }
    let seen = this.#seen.get(keyId);
    if (seen === undefined) this.#seen.set(keyId, (seen = { ring: [], set: new Set(), next: 0 }));
    const text = iv.toString('latin1');
    if (seen.set.has(text)) {
      throw new KmsError(
        'iv-refused',
        `the HSM used an IV twice under key ${keyId}; the ciphertext was thrown away. Stop encrypting with this HSM and call its vendor`,
        { keyId },
      );
    }
    const oldest = seen.ring[seen.next];
    if (oldest !== undefined) seen.set.delete(oldest);
    seen.ring[seen.next] = text;
    seen.set.add(text);
    seen.next = (seen.next + 1) % REMEMBERED;
  }
}
