import { createHash } from 'node:crypto';
import { CkrError, constants, type Mechanism } from '../pkcs11/module.ts';
import type { Session } from '../pkcs11/session.ts';
import type { KeyHandles } from '../profiles/index.ts';
import { classifyCkr } from '../pkcs11/ckr.ts';

const KEY_ID_BYTES = 16;
/** A CKA_ID shorter than this is no identity: vendors and tools put serial numbers and zeros there. */
const CKA_ID_MIN_BYTES = 16;

const sha256 = (...parts: (string | Buffer)[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/** What is encrypted to recognise a key; never the zero block, which under the same key is GCM's hash key. */
const checkBlock = (): Buffer => sha256('hsm-kms-plugin key check').subarray(0, KEY_ID_BYTES);

/**
 * The key id of a key: the same on every host and backup that holds the same key bytes. With a MAC key, the id of the
 * pair that scheme 3 uses.
 *
 * @returns 32 hex digits, or undefined where the token forbids the mechanisms for this key.
 * Throws CkrError when the token fails.
 */
export async function checkValueId(
  session: Session,
  key: KeyHandles,
  mechanisms: ReadonlySet<number>,
): Promise<string | undefined> {
  const block = checkBlock();
  const encrypted = await encryptBlock(session, key, mechanisms, block);
  if (encrypted === undefined) return undefined;
  try {
    if (key.mac === undefined) return idOf('hsm-kms-plugin key id v1', encrypted);
    const mac = await session.sign({ mechanism: constants.CKM_SHA256_HMAC }, key.mac, block, 32);
    const id = idOf('hsm-kms-plugin key id v1', encrypted, mac);
    mac.fill(0);
    return id;
  } finally {
    encrypted.fill(0);
  }
}

/** @returns 32 hex digits from CKA_ID, or undefined where that is too short to name one key among all. */
export function ckaIdId(ckaId: Buffer | undefined): string | undefined {
  if (ckaId === undefined || ckaId.length < CKA_ID_MIN_BYTES || ckaId.every((byte) => byte === ckaId[0]))
    return undefined;
  return idOf('hsm-kms-plugin key id cka v1', ckaId);
}

const idOf = (prefix: string, ...material: Buffer[]): string =>
  sha256(prefix, ...material).toString('hex', 0, KEY_ID_BYTES);

async function encryptBlock(
  session: Session,
  key: KeyHandles,
  mechanisms: ReadonlySet<number>,
  block: Buffer,
): Promise<Buffer | undefined> {
  const ways: Mechanism[] = [
    { mechanism: constants.CKM_AES_ECB },
    { mechanism: constants.CKM_AES_CBC, parameter: Buffer.alloc(16) },
  ];
  for (const way of ways) {
    if (!mechanisms.has(way.mechanism)) continue;
    try {
      const encrypted = await session.encrypt(way, key.aes, block, 32);
      if (encrypted.length !== 16) throw new CkrError('C_Encrypt', 'CKR_FUNCTION_FAILED');
      return encrypted;
    } catch (error) {
      // An Init that is refused for this key leaves nothing open in the session; anything later is the token's trouble.
      if (error instanceof CkrError && error.operation === 'C_EncryptInit' && classifyCkr(error.ckr) === 'unable')
        continue;
      throw error;
    }
  }
  return undefined;
}
