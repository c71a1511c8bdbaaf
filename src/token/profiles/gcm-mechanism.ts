import { constants, type Mechanism } from '../pkcs11/module.ts';

export const GCM_TAG_BYTES = 16;

/**
 * CKM_AES_GCM with its parameters in the layout of PKCS#11 v2.40 (with ulIvBits), which the modules of today expect.
 * An empty `iv` asks the HSM for one; a module may also write into it, so it is the caller's own memory.
 */
export function gcm(iv: Buffer, associatedData: Buffer): Mechanism {
  const parameter: constants.AesGCM = {
    type: constants.CK_PARAMS_AES_GCM_v240,
    iv,
    ivBits: iv.length * 8,
    aad: associatedData,
    tagBits: GCM_TAG_BYTES * 8,
  };
  return { mechanism: constants.CKM_AES_GCM, parameter };
}
