/**
 * A program of its own that prepares a token: a PKCS#11 module reads its environment once, so each token needs a
 * process started with that environment. Reads one JSON job on stdin (PINs included, hence not an argument) and
 * prints one JSON answer. Runs on bare Node, without a loader, since nearly every test waits for it.
 */
import pkcs11js from 'pkcs11js';
import { readFileSync } from 'node:fs';

export interface KeyJob {
  readonly label: string;
  readonly kind: 'aes' | 'generic';
  readonly bytes: number;
  /** CKA_ID in hex; empty leaves it out. */
  readonly id: string;
  /** Key material in hex for C_CreateObject; without it the token generates the key. */
  readonly value?: string;
  /** CKA_ names and values on top of the safe defaults; a string is hex, null leaves the attribute out. */
  readonly attributes: Readonly<Record<string, boolean | string | number | null>>;
}

export interface ProvisionJob {
  readonly module: string;
  /** NSS takes its database directory here. */
  readonly libraryParameters?: string;
  /** Initialises the first slot whose token is not initialised. */
  readonly initToken?: {
    readonly label: string;
    readonly soPin: string;
    readonly pin: string;
    /** The token of that label is there already and lacks only its user's PIN (NSS). */
    readonly existing?: boolean;
    /** The security officer's PIN of a new token, to be changed at once (openCryptoki). */
    readonly firstSoPin?: string;
    /** A user's PIN that the security officer has set must be changed by the user before it is good (openCryptoki). */
    readonly changeUserPin?: boolean;
  };
  readonly label: string;
  readonly pin: string;
  readonly keys: readonly KeyJob[];
  /** Labels of secret keys to destroy. */
  readonly destroy: readonly string[];
}

export interface ProvisionAnswer {
  readonly slot: number;
  readonly serial: string;
}

const p11 = pkcs11js;

function constant(name: string): number {
  const value: unknown = Reflect.get(p11, name);
  if (typeof value !== 'number') throw new Error(`pkcs11js has no constant ${name}`);
  return value;
}

function keyTemplate(job: KeyJob): pkcs11js.Template {
  const values: Record<string, boolean | string | number | null> = {
    CKA_CLASS: p11.CKO_SECRET_KEY,
    CKA_KEY_TYPE: job.kind === 'aes' ? p11.CKK_AES : p11.CKK_GENERIC_SECRET,
    CKA_TOKEN: true,
    CKA_PRIVATE: true,
    CKA_SENSITIVE: true,
    CKA_EXTRACTABLE: false,
    CKA_ENCRYPT: job.kind === 'aes',
    CKA_DECRYPT: job.kind === 'aes',
    CKA_SIGN: job.kind === 'generic',
    CKA_VERIFY: job.kind === 'generic',
    CKA_WRAP: false,
    CKA_UNWRAP: false,
    ...(job.value === undefined ? { CKA_VALUE_LEN: job.bytes } : { CKA_VALUE: job.value }),
    ...(job.id === '' ? {} : { CKA_ID: job.id }),
    ...job.attributes,
  };
  const template: pkcs11js.Template = [{ type: p11.CKA_LABEL, value: job.label }];
  for (const [name, value] of Object.entries(values)) {
    if (value === null) continue;
    template.push({ type: constant(name), value: typeof value === 'string' ? Buffer.from(value, 'hex') : value });
  }
  return template;
}

function findSlot(module: pkcs11js.PKCS11, label: string): pkcs11js.Handle {
  const slot = module.C_GetSlotList(true).find((candidate) => module.C_GetTokenInfo(candidate).label.trim() === label);
  if (slot === undefined) throw new Error(`no token labelled ${label}`);
  return slot;
}

function initToken(module: pkcs11js.PKCS11, job: NonNullable<ProvisionJob['initToken']>): void {
  let soPin = job.soPin;
  if (job.existing !== true) {
    soPin = job.firstSoPin ?? soPin;
    const slot = module
      .C_GetSlotList(true)
      .find((candidate) => (module.C_GetTokenInfo(candidate).flags & p11.CKF_TOKEN_INITIALIZED) === 0);
    if (slot === undefined) throw new Error('no slot is free for a new token');
    // PKCS#11 wants the label padded to 32 bytes, and pkcs11js does not pad it.
    module.C_InitToken(slot, soPin, job.label.padEnd(32));
  }
  const session = module.C_OpenSession(findSlot(module, job.label), p11.CKF_SERIAL_SESSION | p11.CKF_RW_SESSION);
  module.C_Login(session, p11.CKU_SO, soPin);
  if (soPin !== job.soPin) module.C_SetPIN(session, soPin, job.soPin);
  const first = job.changeUserPin === true ? '00000000' : job.pin;
  module.C_InitPIN(session, first);
  module.C_Logout(session);
  if (first !== job.pin) {
    module.C_Login(session, p11.CKU_USER, first);
    module.C_SetPIN(session, first, job.pin);
    module.C_Logout(session);
  }
  module.C_CloseSession(session);
}

function start(module: pkcs11js.PKCS11, job: ProvisionJob): void {
  module.C_Initialize({
    flags: p11.CKF_OS_LOCKING_OK,
    // pkcs11js drops the last character of libraryParameters.
    ...(job.libraryParameters === undefined ? {} : { libraryParameters: `${job.libraryParameters} ` }),
  });
}

function changeKeys(module: pkcs11js.PKCS11, slot: pkcs11js.Handle, job: ProvisionJob): void {
  const session = module.C_OpenSession(slot, p11.CKF_SERIAL_SESSION | p11.CKF_RW_SESSION);
  module.C_Login(session, p11.CKU_USER, job.pin);
  for (const label of job.destroy) {
    module.C_FindObjectsInit(session, [
      { type: p11.CKA_CLASS, value: p11.CKO_SECRET_KEY },
      { type: p11.CKA_LABEL, value: label },
    ]);
    const found = module.C_FindObjects(session, 100);
    module.C_FindObjectsFinal(session);
    for (const object of found) module.C_DestroyObject(session, object);
  }
  for (const key of job.keys) {
    const template = keyTemplate(key);
    if (key.value !== undefined) module.C_CreateObject(session, template);
    else {
      const mechanism = key.kind === 'aes' ? p11.CKM_AES_KEY_GEN : p11.CKM_GENERIC_SECRET_KEY_GEN;
      module.C_GenerateKey(session, { mechanism }, template);
    }
  }
}

function run(job: ProvisionJob): ProvisionAnswer {
  const module = new p11.PKCS11();
  module.load(job.module);
  start(module, job);
  try {
    if (job.initToken !== undefined) {
      initToken(module, job.initToken);
      // SoftHSM2 gives a new token another slot number at its next start.
      module.C_Finalize();
      start(module, job);
    }
    const slot = findSlot(module, job.label);
    if (job.keys.length + job.destroy.length > 0) changeKeys(module, slot, job);
    return { slot: slot.readUInt32LE(0), serial: module.C_GetTokenInfo(slot).serialNumber.trim() };
  } finally {
    module.C_Finalize();
  }
}

const job = JSON.parse(readFileSync(0, 'utf8')) as ProvisionJob;
process.stdout.write(JSON.stringify(run(job)));
