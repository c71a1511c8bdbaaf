import { createHash } from 'node:crypto';
import { CkrError, constants, type Mechanism } from '../pkcs11/module.ts';
import type { Session } from '../pkcs11/session.ts';
import type { KeyHandles } from '../profiles/index.ts';

const KEY_ID_BYTES = 16;
/** A CKA_ID shorter than this is no identity: vendors and tools put serial numbers and zeros there. */
const CKA_ID_MIN_BYTES = 16;

const sha256 = (...parts: (string | Buffer)[]): Buffer => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

/**
 * Return values that say nothing of what was asked: session, login, token, device or memory. With any other a policy may
 * refuse a mechanism: vendors have codes of their own for that, and some say CKR_FUNCTION_FAILED.
 */
const PASSING =
  /^CKR_(DEVICE_|SESSION_|TOKEN_|USER_|OPERATION_|CRYPTOKI_|SLOT_|MUTEX_|CANCEL|FUNCTION_CANCELED|HOST_MEMORY|GENERAL_ERROR|OBJECT_HANDLE_INVALID|KEY_HANDLE_INVALID|BUFFER_TOO_SMALL)/;

export const isPassing = (ckr: string): boolean => PASSING.test(ckr);

/** What is encrypted to recognise a key; never the zero block, which under the same key is GCM's hash key. */
const checkBlock = (): Buffer => sha256('hsm-kms-plugin key check').subarray(0, KEY_ID_BYTES);

/**
 * The key id of a key: the same on every host and backup that holds the same key bytes. With a MAC key, the id of the
 * pair that scheme 3 uses.
 *
 * @returns 32 hex digits, or undefined where the token refuses the mechanisms for this key; see `key-check.ts` for when
 * that is believed. Throws CkrError when the token fails.
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
      if (encrypted.length !== 16) throw new CkrError('C_Encrypt', 'CKR_DEVICE_ERROR');
      return encrypted;
    } catch (error) {
      if (!(error instanceof CkrError) || isPassing(error.ckr)) throw error;
    }
  }
  return undefined;
}
