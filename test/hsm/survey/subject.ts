import pkcs11js from 'pkcs11js';

export interface SurveyJob {
  readonly module: string;
  readonly libraryParameters?: string;
  readonly label: string;
  readonly pin: string;
  /** Labels of an AES key and of an HMAC key. */
  readonly aes: string;
  readonly mac: string;
}

/** Answers to experiments: 'ok', a CKR_ name, or a few words. */
export type Facts = Record<string, string>;

/** The CKR_ name in whatever pkcs11js throws: some functions throw a plain Error of `CKR_NAME:number`. */
export function codeOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return /CKR_\w+/.exec(message)?.[0] ?? message;
}

/** What a call answers: its own words, 'ok', or the CKR_ name. */
export function answer(call: () => unknown): string {
  try {
    const result = call();
    return typeof result === 'string' ? result : 'ok';
  } catch (error) {
    return codeOf(error);
  }
}

/** The token under experiment, logged in. */
export class Subject {
  readonly module = new pkcs11js.PKCS11();
  readonly slot: pkcs11js.Handle;
  readonly aes: pkcs11js.Handle;
  readonly mac: pkcs11js.Handle;
  session: pkcs11js.Handle;
  /** What C_Initialize answers when it is given no library parameters. */
  readonly plainInitialize: string;
  readonly job: SurveyJob;

  constructor(job: SurveyJob) {
    this.job = job;
    this.module.load(job.module);
    const flags = pkcs11js.CKF_OS_LOCKING_OK;
    this.plainInitialize = answer(() => {
      this.module.C_Initialize({ flags });
    });
    // NSS from 3.110 on starts without its parameters, and has then no database.
    if (this.plainInitialize === 'ok' && job.libraryParameters !== undefined) this.module.C_Finalize();
    if (this.plainInitialize !== 'ok' || job.libraryParameters !== undefined) {
      this.module.C_Initialize({ flags, libraryParameters: `${job.libraryParameters ?? ''} ` });
    }
    const labelled = (slot: pkcs11js.Handle): boolean => this.module.C_GetTokenInfo(slot).label.trim() === job.label;
    const slot = this.module.C_GetSlotList(true).find(labelled);
    if (slot === undefined) throw new Error(`no token labelled ${job.label}`);
    this.slot = slot;
    this.session = this.open();
    this.module.C_Login(this.session, pkcs11js.CKU_USER, job.pin);
    this.aes = this.key(job.aes);
    this.mac = this.key(job.mac);
  }

  open(): pkcs11js.Handle {
    return this.module.C_OpenSession(this.slot, pkcs11js.CKF_SERIAL_SESSION | pkcs11js.CKF_RW_SESSION);
  }

  find(label: string): pkcs11js.Handle | undefined {
    this.module.C_FindObjectsInit(this.session, [
      { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
      { type: pkcs11js.CKA_LABEL, value: label },
    ]);
    const found = this.module.C_FindObjects(this.session, 20);
    this.module.C_FindObjectsFinal(this.session);
    return found[0];
  }

  key(label: string): pkcs11js.Handle {
    const found = this.find(label);
    if (found === undefined) throw new Error(`no key labelled ${label}`);
    return found;
  }

  /** An experiment on a session of its own: a failed call may leave its operation open. */
  on(experiment: () => unknown): string {
    const before = this.session;
    this.session = this.open();
    const own = this.session;
    try {
      return answer(experiment);
    } finally {
      answer(() => {
        this.module.C_CloseSession(own);
      });
      this.session = before;
    }
  }

  encrypt(mechanism: pkcs11js.Mechanism, data: Buffer, key = this.aes): Buffer {
    this.module.C_EncryptInit(this.session, mechanism, key);
    return Buffer.from(this.module.C_Encrypt(this.session, data, Buffer.alloc(data.length + 64)));
  }

  decrypt(mechanism: pkcs11js.Mechanism, data: Buffer, key = this.aes): Buffer {
    this.module.C_DecryptInit(this.session, mechanism, key);
    return Buffer.from(this.module.C_Decrypt(this.session, data, Buffer.alloc(data.length + 64)));
  }

  sign(data: Buffer, key = this.mac): Buffer {
    this.module.C_SignInit(this.session, { mechanism: pkcs11js.CKM_SHA256_HMAC }, key);
    return Buffer.from(this.module.C_Sign(this.session, data, Buffer.alloc(64)));
  }

  verify(data: Buffer, signature: Buffer): boolean {
    this.module.C_VerifyInit(this.session, { mechanism: pkcs11js.CKM_SHA256_HMAC }, this.mac);
    return this.module.C_Verify(this.session, data, signature);
  }
}

export const same = (a: Buffer, b: Buffer): string => (a.equals(b) ? 'ok' : `other data, ${a.length} bytes`);

/** A copy with one bit changed; negative positions count from the end. */
export function flip(data: Buffer, at: number): Buffer {
  const copy = Buffer.from(data);
  const index = (at + copy.length) % copy.length;
  copy.writeUInt8(copy.readUInt8(index) ^ 1, index);
  return copy;
}
