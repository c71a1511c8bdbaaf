import pkcs11js from 'pkcs11js';
import { randomBytes } from 'node:crypto';
import { answer, codeOf } from './subject.ts';
import type { Facts, Subject } from './subject.ts';

const mechanisms = [
  ...(['CKM_AES_GCM', 'CKM_AES_ECB', 'CKM_AES_CBC', 'CKM_AES_CBC_PAD', 'CKM_SHA256_HMAC'] as const),
  ...(['CKM_AES_KEY_GEN', 'CKM_GENERIC_SECRET_KEY_GEN'] as const),
] as const;
const attributes = [
  ...(['CKA_ID', 'CKA_SENSITIVE', 'CKA_EXTRACTABLE', 'CKA_ALWAYS_SENSITIVE', 'CKA_NEVER_EXTRACTABLE'] as const),
  ...(['CKA_LOCAL', 'CKA_PRIVATE', 'CKA_MODIFIABLE', 'CKA_WRAP', 'CKA_UNWRAP', 'CKA_DERIVE', 'CKA_ENCRYPT'] as const),
  ...(['CKA_DECRYPT', 'CKA_VALUE_LEN', 'CKA_KEY_TYPE', 'CKA_KEY_GEN_MECHANISM', 'CKA_VALUE'] as const),
] as const;
const flags = [
  ...(['CKF_RNG', 'CKF_LOGIN_REQUIRED', 'CKF_USER_PIN_INITIALIZED', 'CKF_TOKEN_INITIALIZED'] as const),
  ...(['CKF_USER_PIN_COUNT_LOW', 'CKF_USER_PIN_FINAL_TRY', 'CKF_USER_PIN_LOCKED'] as const),
  ...(['CKF_USER_PIN_TO_BE_CHANGED', 'CKF_RESTORE_KEY_NOT_NEEDED', 'CKF_DUAL_CRYPTO_OPERATIONS'] as const),
] as const;

function flagsOf(subject: Subject): string {
  const info = subject.module.C_GetTokenInfo(subject.slot);
  return flags.filter((name) => (info.flags & pkcs11js[name]) !== 0).join(' ');
}

/** Who the token says it is and what it lists. */
export function surveyInfo(subject: Subject, facts: Facts): void {
  const version = (of: { major: number; minor: number }): string => `${of.major}.${of.minor}`;
  const library = subject.module.C_GetInfo();
  const token = subject.module.C_GetTokenInfo(subject.slot);
  facts['C_Initialize without library parameters'] = subject.plainInitialize;
  facts['library'] = `${library.libraryDescription.trim()} ${version(library.libraryVersion)}`;
  facts['Cryptoki'] = version(library.cryptokiVersion);
  facts['manufacturer'] = token.manufacturerID.trim();
  facts['model'] = token.model.replaceAll('\0', ' ').trim();
  facts['serial'] = token.serialNumber.trim();
  facts['firmware'] = version(token.firmwareVersion);
  facts['sessions'] = `${token.maxSessionCount}, read-write ${token.maxRwSessionCount}`;
  facts['PIN bytes'] = `${token.minPinLen} to ${token.maxPinLen}`;
  facts['flags'] = flagsOf(subject);
  const listed = subject.module.C_GetMechanismList(subject.slot);
  for (const name of mechanisms) facts[name] = listed.includes(pkcs11js[name]) ? 'yes' : 'no';
  for (const [kind, key] of [
    ['AES', subject.aes],
    ['HMAC', subject.mac],
  ] as const) {
    for (const name of attributes) {
      facts[`${kind} key, ${name}`] = answer(
        () =>
          subject.module
            .C_GetAttributeValue(subject.session, key, [{ type: pkcs11js[name] }])[0]
            ?.value.toString('hex') ?? '',
      );
    }
  }
}

function template(label: string, keyType: number, usage: readonly number[]): pkcs11js.Template {
  return [
    { type: pkcs11js.CKA_CLASS, value: pkcs11js.CKO_SECRET_KEY },
    { type: pkcs11js.CKA_KEY_TYPE, value: keyType },
    { type: pkcs11js.CKA_LABEL, value: label },
    { type: pkcs11js.CKA_ID, value: randomBytes(16) },
    ...[pkcs11js.CKA_TOKEN, pkcs11js.CKA_PRIVATE, pkcs11js.CKA_SENSITIVE, ...usage].map((type) => ({
      type,
      value: true,
    })),
    ...[pkcs11js.CKA_EXTRACTABLE, pkcs11js.CKA_WRAP, pkcs11js.CKA_UNWRAP].map((type) => ({ type, value: false })),
  ];
}

/** Making, importing and changing keys. */
export function surveyKeys(subject: Subject, facts: Facts): void {
  const length = { type: pkcs11js.CKA_VALUE_LEN, value: 32 };
  const generate = (label: string, mechanism: number, keyType: number, usage: readonly number[]): string =>
    answer(() => {
      subject.module.C_GenerateKey(subject.session, { mechanism }, [...template(label, keyType, usage), length]);
    });
  const sealing = [pkcs11js.CKA_ENCRYPT, pkcs11js.CKA_DECRYPT];
  const signing = [pkcs11js.CKA_SIGN, pkcs11js.CKA_VERIFY];
  const generic = pkcs11js.CKM_GENERIC_SECRET_KEY_GEN;
  facts['C_GenerateKey, AES'] = generate('made', pkcs11js.CKM_AES_KEY_GEN, pkcs11js.CKK_AES, sealing);
  facts['C_GenerateKey, GENERIC_SECRET'] = generate('made-mac', generic, pkcs11js.CKK_GENERIC_SECRET, signing);
  // CKK_SHA256_HMAC, which pkcs11js has no name for.
  facts['C_GenerateKey, SHA256_HMAC'] = generate('made-hmac', generic, 0x2b, signing);
  facts['C_CreateObject of an AES key'] = answer(() => {
    const material = { type: pkcs11js.CKA_VALUE, value: randomBytes(32) };
    subject.module.C_CreateObject(subject.session, [...template('put', pkcs11js.CKK_AES, sealing), material]);
  });
  for (const [name, value] of [
    ['CKA_ID', Buffer.from('fedcba9876543210')],
    ['CKA_LABEL', Buffer.from(subject.job.aes)],
  ] as const) {
    facts[`C_SetAttributeValue of ${name}`] = answer(() => {
      subject.module.C_SetAttributeValue(subject.session, subject.aes, [{ type: pkcs11js[name], value }]);
    });
  }
}

/** What a handle answers that is no good any more. */
export function surveyHandles(subject: Subject, facts: Facts): void {
  const use = (session: pkcs11js.Handle, key: pkcs11js.Handle): void => {
    const mechanism = { mechanism: pkcs11js.CKM_AES_CBC, parameter: Buffer.alloc(16) };
    subject.module.C_EncryptInit(session, mechanism, key);
  };
  facts['C_Login when logged in'] = answer(() => {
    subject.module.C_Login(subject.session, pkcs11js.CKU_USER, subject.job.pin);
  });
  const closed = subject.open();
  subject.module.C_CloseSession(closed);
  facts['session closed'] = answer(() => {
    use(closed, subject.aes);
  });
  facts['key handle unknown'] = subject.on(() => {
    const unknown = Buffer.from(subject.aes);
    unknown.writeUInt32LE(0x7ffffff0, 0);
    use(subject.session, unknown);
  });
  facts['key destroyed'] = subject.on(() => {
    const doomed = subject.find('put');
    if (doomed === undefined) return 'none to destroy';
    subject.module.C_DestroyObject(subject.session, doomed);
    use(subject.session, doomed);
    return 'ok';
  });
  facts['sessions that open'] = answer(() => {
    const opened: pkcs11js.Handle[] = [];
    try {
      while (opened.length < 1100) opened.push(subject.open());
      return 'over 1100';
    } catch (error) {
      return `${opened.length}, then ${codeOf(error)}`;
    } finally {
      for (const session of opened) subject.module.C_CloseSession(session);
    }
  });
  subject.module.C_Logout(subject.session);
  facts['key after C_Logout'] = subject.on(() => {
    use(subject.session, subject.aes);
  });
  facts['search after C_Logout'] = answer(() =>
    subject.find(subject.job.aes) === undefined ? 'finds nothing' : 'finds',
  );
  subject.module.C_Login(subject.session, pkcs11js.CKU_USER, subject.job.pin);
  facts['old key handle after C_Login'] = subject.on(() => {
    use(subject.session, subject.aes);
  });
}

/** Four threads at once, each with a session. */
export async function surveyThreads(subject: Subject, facts: Facts): Promise<void> {
  const key = subject.key(subject.job.aes);
  const mechanism = { mechanism: pkcs11js.CKM_AES_CBC, parameter: Buffer.alloc(16, 1) };
  const data = Buffer.alloc(16_384, 1);
  const expected = subject.encrypt(mechanism, data, key);
  const answers = new Set<string>();
  const work = async (session: pkcs11js.Handle): Promise<void> => {
    for (let round = 0; round < 10; round++) {
      try {
        subject.module.C_EncryptInit(session, mechanism, key);
        const sealed = await subject.module.C_EncryptAsync(session, data, Buffer.alloc(data.length));
        answers.add(sealed.equals(expected) ? 'ok' : 'other data');
      } catch (error) {
        answers.add(codeOf(error));
      }
    }
  };
  await Promise.all(Array.from({ length: 4 }, () => work(subject.open())));
  facts['4 threads'] = [...answers].sort().join(', ');
}

/** PINs that are wrong. The last experiment, since tokens lock. */
export function surveyPins(subject: Subject, facts: Facts): void {
  subject.module.C_Logout(subject.session);
  const login = (pin: string): string =>
    answer(() => {
      subject.module.C_Login(subject.session, pkcs11js.CKU_USER, pin);
    });
  facts['wrong PIN'] = login('000000');
  facts['flags after a wrong PIN'] = flagsOf(subject);
  facts['right PIN and a line feed'] = login(`${subject.job.pin}\n`);
  const more = Array.from({ length: 8 }, () => login('000000'));
  const locked = more.findIndex((code) => code !== 'CKR_PIN_INCORRECT');
  facts['wrong PINs until another answer'] = locked < 0 ? 'over 10' : `${locked + 2}, then ${more[locked] ?? ''}`;
  facts['flags after ten wrong PINs'] = flagsOf(subject);
  facts['right PIN then'] = login(subject.job.pin);
}
