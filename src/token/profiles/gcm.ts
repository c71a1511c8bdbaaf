import { freshRandom } from '../../random/index.ts';
import { constants } from '../pkcs11/module.ts';
import { gcm, GCM_TAG_BYTES } from './gcm-mechanism.ts';
import type { Profile } from './types.ts';

const IV_BYTES = 12;

/**
 * AES-GCM with a random 96-bit IV of ours (NIST SP 800-38D, section 8.2.2): SoftHSM2, Utimaco, Fortanix, Luna outside
 * FIPS mode, openCryptoki, NSS.
 */
export const gcmProfile: Profile = {
  name: 'gcm',
  scheme: 1,
  ivBy: 'caller',
  maxValueBytes: undefined,
  suits: (token) => token.mechanisms.has(constants.CKM_AES_GCM),
  async seal(session, key, associatedData, plaintext) {
    const iv = freshRandom(IV_BYTES);
    const sealed = await session.encrypt(
      gcm(iv, associatedData),
      key.aes,
      plaintext,
      plaintext.length + GCM_TAG_BYTES + IV_BYTES,
    );
    return Buffer.concat([iv, sealed]);
  },
};
