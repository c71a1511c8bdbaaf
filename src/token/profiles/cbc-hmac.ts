import { freshRandom } from '../../random/index.ts';
import { CkrError, constants } from '../pkcs11/module.ts';
import { CBC_IV_BYTES, cbcEncrypt, MAC_BYTES } from './cbc-mechanism.ts';
import type { Profile } from './types.ts';

/**
 * AES-CBC with padding, then HMAC-SHA-256 over associated data, IV and ciphertext, for tokens without GCM (TPM 2.0, YubiHSM
 * 2, openCryptoki's soft token). Encrypt-then-MAC with two keys; the IV is random and unpredictable (NIST SP 800-38A,
 * appendix C).
 */
export const cbcHmacProfile: Profile = {
  name: 'cbc-hmac',
  scheme: 3,
  ivBy: 'caller',
  // A TPM's HMAC takes 4,096 bytes (measured), a message to a YubiHSM 2 has 2,048 in all.
  maxValueBytes: 1_024,
  suits: ({ mechanisms }) =>
    (mechanisms.has(constants.CKM_AES_CBC) || mechanisms.has(constants.CKM_AES_CBC_PAD)) &&
    mechanisms.has(constants.CKM_SHA256_HMAC),
  async seal(session, key, associatedData, plaintext) {
    if (key.mac === undefined) throw new CkrError('C_SignInit', 'CKR_KEY_FUNCTION_NOT_PERMITTED');
    const iv = freshRandom(CBC_IV_BYTES);
    const encrypted = await cbcEncrypt(session, key, iv, plaintext);
    const mac = await session.sign(
      { mechanism: constants.CKM_SHA256_HMAC },
      key.mac,
      Buffer.concat([associatedData, iv, encrypted]),
      MAC_BYTES,
    );
    return Buffer.concat([iv, encrypted, mac]);
  },
};
