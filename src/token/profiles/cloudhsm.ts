import { constants } from '../pkcs11/module.ts';
import { gcm, GCM_TAG_BYTES } from './gcm-mechanism.ts';
import type { Profile } from './types.ts';

const IV_BYTES = 12;

/**
 * AWS CloudHSM: the caller passes an IV of 12 zero bytes and the HSM writes its own over it; at most 16 KB in one call
 * (the vendor's list of known issues).
 */
export const cloudHsmProfile: Profile = {
  name: 'cloudhsm',
  scheme: 1,
  ivBy: 'hsm',
  maxValueBytes: 16_384,
  suits: (token) =>
    token.mechanisms.has(constants.CKM_AES_GCM) &&
    /cavium|marvell|cloudhsm|aws/i.test(`${token.manufacturer} ${token.model}`),
  async seal(session, key, associatedData, plaintext) {
    const iv = Buffer.alloc(IV_BYTES);
    const sealed = await session.encrypt(gcm(iv, associatedData), key.aes, plaintext, plaintext.length + GCM_TAG_BYTES);
    return Buffer.concat([iv, sealed]);
  },
};
