import { readFileSync } from 'node:fs';
import pkcs11js from 'pkcs11js';

/**
 * The HSM's floor from Node: AES-GCM decryptions through pkcs11js with nothing in between, synchronous on one session or
 * asynchronous on several.
 *
 * Arguments: module, token label, PIN file, key label, value size in bytes, sessions (0: synchronous), seconds. Prints
 * operations a second.
 */
const [module = '', label = '', pinFile = '', keyLabel = '', sizeText = '', sessionsText = '', secondsText = ''] =
  process.argv.slice(2);
const size = Number(sizeText);
const sessions = Number(sessionsText);
const p11 = new pkcs11js.PKCS11();
p11.load(module);
p11.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK });
const slot = p11.C_GetSlotList(true).find((each) => p11.C_GetTokenInfo(each).label.trim() === label);
if (slot === undefined) throw new Error(`no token ${label}`);
const open = (): Buffer => p11.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION);
const session = open();
p11.C_Login(session, pkcs11js.CKU_USER, readFileSync(pinFile, 'utf8'));
p11.C_FindObjectsInit(session, [
  { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
  { type: pkcs11js.CKA_LABEL, value: keyLabel },
]);
const [key] = p11.C_FindObjects(session, 1);
p11.C_FindObjectsFinal(session);
if (key === undefined) throw new Error(`no key ${keyLabel}`);
const parameter: pkcs11js.AesGCM = {
  type: pkcs11js.CK_PARAMS_AES_GCM_v240,
  iv: Buffer.alloc(12, 1),
  ivBits: 96,
  aad: Buffer.alloc(26),
  tagBits: 128,
};
const gcm: pkcs11js.Mechanism = { mechanism: pkcs11js.CKM_AES_GCM, parameter };
p11.C_EncryptInit(session, gcm, key);
const sealed = p11.C_Encrypt(session, Buffer.alloc(size), Buffer.alloc(size + 64));

const started = performance.now();
const end = started + Number(secondsText) * 1000;
let done = 0;

function synchronous(handle: Buffer): void {
  const out = Buffer.alloc(size + 64);
  while (performance.now() < end) {
    p11.C_DecryptInit(handle, gcm, key as Buffer);
    p11.C_Decrypt(handle, sealed, out);
    done++;
  }
}

async function asynchronous(handle: Buffer): Promise<void> {
  const out = Buffer.alloc(size + 64);
  while (performance.now() < end) {
    p11.C_DecryptInit(handle, gcm, key as Buffer);
    await p11.C_DecryptAsync(handle, sealed, out);
    done++;
  }
}

if (sessions === 0) synchronous(session);
else await Promise.all(Array.from({ length: sessions }, () => asynchronous(open())));
console.log(Math.round(done / ((performance.now() - started) / 1000)));
process.exit(0);
