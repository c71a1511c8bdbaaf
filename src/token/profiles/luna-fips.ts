import { constants } from '../pkcs11/module.ts';
import { gcm, GCM_TAG_BYTES } from './gcm-mechanism.ts';
import { IvError } from './iv-error.ts';
import type { Profile } from './types.ts';

const IV_BYTES = 16;

/**
 * Luna in FIPS mode before firmware 7.9.3: the caller passes no IV, and the HSM appends its 16 random bytes behind the
 * tag. The body has the IV in front, like every scheme's.
 */
export const lunaFipsProfile: Profile = {
  name: 'luna-fips',
  scheme: 2,
  ivBy: 'hsm',
  maxValueBytes: undefined,
  suits: (token) =>
    token.mechanisms.has(constants.CKM_AES_GCM) &&
    /safenet|thales|gemalto|luna|chrysalis/i.test(`${token.manufacturer} ${token.model}`),
  async seal(session, key, associatedData, plaintext) {
    const sealedBytes = plaintext.length + GCM_TAG_BYTES + IV_BYTES;
    const out = await session.encrypt(gcm(Buffer.alloc(0), associatedData), key.aes, plaintext, sealedBytes);
    if (out.length !== sealedBytes) {
      const ivBytes = out.length - plaintext.length - GCM_TAG_BYTES;
      throw new IvError(`the HSM appended an IV of ${ivBytes} bytes where ${IV_BYTES} are due`);
    }
    const ivAt = out.length - IV_BYTES;
    return Buffer.concat([out.subarray(ivAt), out.subarray(0, ivAt)]);
  },
};
