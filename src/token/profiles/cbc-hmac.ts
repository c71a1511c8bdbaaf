import { randomBytes } from 'node:crypto';
import { CkrError, constants } from '../pkcs11/module.ts';
import type { Profile } from './types.ts';

export const CBC_IV_BYTES = 16;
export const MAC_BYTES = 32;
const BLOCK_BYTES = 16;

/**
 * AES-CBC-PAD, then HMAC-SHA-256 over associated data, IV and ciphertext, for tokens without GCM (TPM 2.0, YubiHSM 2).
 * Encrypt-then-MAC with two keys; the IV is random and unpredictable (NIST SP 800-38A, appendix C).
 */
export const cbcHmacProfile: Profile = {
  name: 'cbc-hmac',
  scheme: 3,
  ivBy: 'caller',
  maxValueBytes: undefined,
  suits: (token) => token.mechanisms.has(constants.CKM_AES_CBC_PAD) && token.mechanisms.has(constants.CKM_SHA256_HMAC),
  async seal(session, key, associatedData, plaintext) {
    if (key.mac === undefined) throw new CkrError('C_SignInit', 'CKR_KEY_FUNCTION_NOT_PERMITTED');
    const iv = randomBytes(CBC_IV_BYTES);
    const encrypted = await session.encrypt(
      { mechanism: constants.CKM_AES_CBC_PAD, parameter: iv },
      key.aes,
      plaintext,
      plaintext.length + BLOCK_BYTES,
    );
    const mac = await session.sign(
      { mechanism: constants.CKM_SHA256_HMAC },
      key.mac,
      Buffer.concat([associatedData, iv, encrypted]),
      MAC_BYTES,
    );
    return Buffer.concat([iv, encrypted, mac]);
  },
};
