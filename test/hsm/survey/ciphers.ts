import pkcs11js from 'pkcs11js';
import { randomBytes } from 'node:crypto';
import { answer, flip, same } from './subject.ts';
import type { Facts, Subject } from './subject.ts';

const value = Buffer.from('a value of twenty-six byte');
const aad = Buffer.from('the header');
const sizes = [100, 4096, 16_385, 65_537];

/** AES-GCM parameters. pkcs11js's older CK_PARAMS_AES_GCM leaves ulIvBits uninitialised. */
function gcm(iv: Buffer, header: Buffer = aad): pkcs11js.Mechanism {
  const parameter = { type: pkcs11js.CK_PARAMS_AES_GCM_v240, iv, ivBits: iv.length * 8, aad: header, tagBits: 128 };
  return { mechanism: pkcs11js.CKM_AES_GCM, parameter };
}

const cbcPad = (iv: Buffer): pkcs11js.Mechanism => ({ mechanism: pkcs11js.CKM_AES_CBC_PAD, parameter: iv });
const cbc = (iv: Buffer): pkcs11js.Mechanism => ({ mechanism: pkcs11js.CKM_AES_CBC, parameter: iv });

function padded(data: Buffer): Buffer {
  const missing = 16 - (data.length % 16);
  return Buffer.concat([data, Buffer.alloc(missing, missing)]);
}

/** Experiments that make sense for GCM and for CBC_PAD. */
function both(subject: Subject, facts: Facts, name: string, of: (iv: Buffer) => pkcs11js.Mechanism, iv: Buffer): void {
  const fact = (what: string, experiment: () => unknown): void => {
    facts[`${name}: ${what}`] = subject.on(experiment);
  };
  let sealed: Buffer = Buffer.alloc(0);
  subject.on(() => {
    sealed = subject.encrypt(of(iv), value);
  });
  fact('last byte wrong', () => same(subject.decrypt(of(iv), flip(sealed, -1)), value));
  fact('another key', () => same(subject.decrypt(of(iv), sealed, subject.key('another')), value));
  fact('8 bytes only', () => same(subject.decrypt(of(iv), sealed.subarray(0, 8)), value));
  fact('the session after a failure', () => {
    answer(() => subject.decrypt(of(iv), flip(sealed, -1)));
    return same(subject.decrypt(of(iv), sealed), value);
  });
  const next = (): string => answer(() => same(subject.decrypt(of(iv), sealed), value));
  fact('empty value, null pointer', () => {
    const first = answer(() =>
      same(subject.decrypt(of(iv), subject.encrypt(of(iv), Buffer.alloc(0))), Buffer.alloc(0)),
    );
    return `${first}, then ${next()}`;
  });
  fact('empty value, pointer', () => {
    const empty = Buffer.alloc(16).subarray(0, 0);
    return `${answer(() => same(subject.decrypt(of(iv), subject.encrypt(of(iv), empty)), empty))}, then ${next()}`;
  });
  for (const size of sizes) {
    const data = randomBytes(size);
    fact(`${size} bytes`, () => same(subject.decrypt(of(iv), subject.encrypt(of(iv), data)), data));
  }
  fact('decrypted into no more room than needed', () => {
    subject.module.C_DecryptInit(subject.session, of(iv), subject.aes);
    return same(Buffer.from(subject.module.C_Decrypt(subject.session, sealed, Buffer.alloc(value.length))), value);
  });
  fact('after CKR_BUFFER_TOO_SMALL, the same call with room', () => {
    subject.module.C_EncryptInit(subject.session, of(iv), subject.aes);
    answer(() => subject.module.C_Encrypt(subject.session, value, Buffer.alloc(4)));
    return same(Buffer.from(subject.module.C_Encrypt(subject.session, value, Buffer.alloc(64))), sealed);
  });
  fact('C_EncryptInit twice', () => {
    subject.module.C_EncryptInit(subject.session, of(iv), subject.aes);
    subject.module.C_EncryptInit(subject.session, of(iv), subject.aes);
  });
}

function surveyGcm(subject: Subject, facts: Facts): void {
  const iv = randomBytes(12);
  facts['GCM: 12-byte IV and AAD'] = subject.on(() =>
    same(subject.decrypt(gcm(iv), subject.encrypt(gcm(iv), value)), value),
  );
  if (facts['GCM: 12-byte IV and AAD'] !== 'ok') return;
  both(subject, facts, 'GCM', gcm, iv);
  facts['GCM: 1048577 bytes'] = subject.on(() => {
    const data = randomBytes(1_048_577);
    return same(subject.decrypt(gcm(iv), subject.encrypt(gcm(iv), data)), data);
  });
  facts['GCM: AAD wrong'] = subject.on(() =>
    same(subject.decrypt(gcm(iv, flip(aad, 0)), subject.encrypt(gcm(iv), value)), value),
  );
  facts['GCM: 16-byte IV'] = subject.on(() => {
    const long = randomBytes(16);
    return same(subject.decrypt(gcm(long), subject.encrypt(gcm(long), value)), value);
  });
  facts['GCM: no IV'] = subject.on(() => {
    const added = subject.encrypt(gcm(Buffer.alloc(0)), value).length - value.length;
    return `ok, ${added} bytes longer`;
  });
  facts['GCM: IV of zeros'] = subject.on(() => {
    const zeros = Buffer.alloc(12);
    subject.encrypt(gcm(zeros), value);
    return zeros.equals(Buffer.alloc(12)) ? 'taken as it is' : 'written over';
  });
}

function surveyCbc(subject: Subject, facts: Facts): void {
  const iv = randomBytes(16);
  both(subject, facts, 'CBC_PAD', cbcPad, iv);
  const data = randomBytes(1000);
  let sealed: Buffer = Buffer.alloc(0);
  subject.on(() => {
    sealed = subject.encrypt(cbcPad(iv), data);
  });
  facts['CBC_PAD: the same bytes as CBC of a padded value'] = subject.on(() =>
    same(subject.encrypt(cbc(iv), padded(data)), sealed),
  );
  for (const size of sizes) {
    const long = padded(randomBytes(size));
    facts[`CBC: ${size} bytes`] = subject.on(() =>
      same(subject.decrypt(cbc(iv), subject.encrypt(cbc(iv), long)), long),
    );
  }
  let block: Buffer = Buffer.alloc(0);
  facts['ECB: one block'] = subject.on(() => {
    block = subject.encrypt({ mechanism: pkcs11js.CKM_AES_ECB }, data.subarray(0, 16));
    return block.length === 16 ? 'ok' : `${block.length} bytes`;
  });
  facts['CBC: one block with a zero IV, as ECB'] = subject.on(() =>
    same(subject.encrypt(cbc(Buffer.alloc(16)), data.subarray(0, 16)), block),
  );
}

function surveyHmac(subject: Subject, facts: Facts): void {
  facts['HMAC: sign and verify'] = subject.on(() => {
    const mac = subject.sign(value);
    return `${mac.length} bytes, ${String(subject.verify(value, mac))}`;
  });
  facts['HMAC: wrong MAC'] = subject.on(() => String(subject.verify(value, flip(subject.sign(value), 0))));
  facts['HMAC: MAC cut to 31 bytes'] = subject.on(() =>
    String(subject.verify(value, subject.sign(value).subarray(0, 31))),
  );
  for (const size of [4096, 4097, 65_537, 1_048_577]) {
    facts[`HMAC: ${size} bytes`] = subject.on(() => `${subject.sign(Buffer.alloc(size)).length} bytes`);
  }
}

/** What AES-GCM, AES-CBC and HMAC do. */
export function surveyCiphers(subject: Subject, facts: Facts): void {
  // First of all: NSS answers a wrong MAC with whatever error came before it on the thread.
  surveyHmac(subject, facts);
  surveyGcm(subject, facts);
  surveyCbc(subject, facts);
}
