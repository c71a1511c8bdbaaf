import { constants } from '../pkcs11/module.ts';
import { gcm, GCM_TAG_BYTES } from './gcm-mechanism.ts';
import type { Profile } from './types.ts';

const IV_BYTES = 12;

/** nShield at FIPS 140 level 3: the HSM makes the IV and writes it into the buffer of CK_GCM_PARAMS. */
export const nShieldFipsProfile: Profile = {
  name: 'nshield-fips',
  scheme: 1,
  ivBy: 'hsm',
  maxValueBytes: undefined,
  suits: (token) =>
    token.mechanisms.has(constants.CKM_AES_GCM) &&
    /ncipher|nshield|entrust/i.test(`${token.manufacturer} ${token.model}`),
  async seal(session, key, associatedData, plaintext) {
    const iv = Buffer.alloc(IV_BYTES);
    const sealed = await session.encrypt(gcm(iv, associatedData), key.aes, plaintext, plaintext.length + GCM_TAG_BYTES);
    return Buffer.concat([iv, sealed]);
  },
};
