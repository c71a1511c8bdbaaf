/**
 * A process that uses a module once: loads it, logs in, finds a key, encrypts so many bytes. For the test of what only
 * a process's death or a second process shows. Prints the answer's length.
 */
import pkcs11js from 'pkcs11js';

const [module = '', label = '', pin = '', bytes = '0'] = process.argv.slice(2);
const p11 = new pkcs11js.PKCS11();
p11.load(module);
p11.C_Initialize({ flags: pkcs11js.CKF_OS_LOCKING_OK });
const slot = p11.C_GetSlotList(true)[0];
if (slot === undefined) throw new Error('no token');
const session = p11.C_OpenSession(slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
p11.C_Login(session, pkcs11js.CKU_USER, pin);
p11.C_FindObjectsInit(session, [{ type: pkcs11js.CKA_LABEL, value: label }]);
const key = p11.C_FindObjects(session, 1)[0];
p11.C_FindObjectsFinal(session);
if (key === undefined) throw new Error('no key');
const parameter = { type: pkcs11js.CK_PARAMS_AES_GCM_v240, iv: Buffer.alloc(12, 1), ivBits: 96, tagBits: 128 };
p11.C_EncryptInit(session, { mechanism: pkcs11js.CKM_AES_GCM, parameter }, key);
const sealed = p11.C_Encrypt(session, Buffer.alloc(Number(bytes)), Buffer.alloc(Number(bytes) + 64));
process.stdout.write(String(sealed.length));
