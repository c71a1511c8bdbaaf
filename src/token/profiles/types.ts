import type { ProfileName } from '../../config/index.ts';
import type { Handle, TokenFacts } from '../pkcs11/module.ts';
import type { Session } from '../pkcs11/session.ts';
import type { TokenScheme } from '../types.ts';

/** Handles of one usable key: the AES key, and scheme 3's second one. */
export interface KeyHandles {
  readonly aes: Handle;
  readonly mac: Handle | undefined;
}

/**
 * How one kind of token encrypts: who makes the IV, where it stands, and how much one call takes. Decryption follows
 * from the ciphertext's scheme alone (`open-scheme.ts`), since a token's firmware or FIPS mode may have changed meanwhile.
 */
export interface Profile {
  readonly name: Exclude<ProfileName, 'auto'>;
  readonly scheme: TokenScheme;
  readonly ivBy: 'caller' | 'hsm';
  /** Largest plaintext in bytes that one call takes, as the vendor documents it. */
  readonly maxValueBytes: number | undefined;
  /** Whether a token with these facts may be of this kind. */
  suits(token: TokenFacts): boolean;
  /** @returns the scheme's body: IV, ciphertext, tag or MAC. Throws CkrError, IvError. */
  seal(session: Session, key: KeyHandles, associatedData: Buffer, plaintext: Buffer): Promise<Buffer>;
}
