import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import pkcs11js from 'pkcs11js';
import { makeSoftHsm } from '../hsm/index.ts';
import type { Hsm } from '../hsm/index.ts';
import { codeName, faultyModule, functionNames } from './index.ts';
import type { FaultyModule } from './index.ts';

const p = pkcs11js;
let hsm: Hsm;
let faulty: FaultyModule;
let module: pkcs11js.PKCS11;
let slot: pkcs11js.Handle;
let session: pkcs11js.Handle;
let key: pkcs11js.Handle;

/** The CKR_ name of what a call threw; CKR_OK if it did not. */
function answer(call: () => unknown): string {
  try {
    call();
    return 'CKR_OK';
  } catch (error) {
    if (error instanceof p.Pkcs11Error) return codeName(error.code);
    throw error;
  }
}

function open(): void {
  const first = module.C_GetSlotList(true)[0];
  assert.ok(first);
  slot = first;
  session = module.C_OpenSession(slot, p.CKF_SERIAL_SESSION | p.CKF_RW_SESSION);
}

const login = (): void => module.C_Login(session, p.CKU_USER, hsm.pin);

function find(): void {
  module.C_FindObjectsInit(session, [{ type: p.CKA_LABEL, value: 'aes' }]);
  const found = module.C_FindObjects(session, 1)[0];
  module.C_FindObjectsFinal(session);
  assert.ok(found, 'the key is found');
  key = found;
}

function start(): void {
  module.C_Initialize({ flags: p.CKF_OS_LOCKING_OK });
  open();
  login();
  find();
}

function gcm(iv: Buffer): pkcs11js.Mechanism {
  const parameter = {
    type: p.CK_PARAMS_AES_GCM_v240,
    iv,
    ivBits: iv.length * 8,
    aad: Buffer.from('header'),
    tagBits: 128,
  };
  return { mechanism: p.CKM_AES_GCM, parameter };
}

function seal(data: Buffer, iv: Buffer = randomBytes(12)): Buffer {
  module.C_EncryptInit(session, gcm(iv), key);
  return Buffer.from(module.C_Encrypt(session, data, Buffer.alloc(data.length + 64)));
}

function unseal(sealed: Buffer, iv: Buffer): Buffer {
  module.C_DecryptInit(session, gcm(iv), key);
  return Buffer.from(module.C_Decrypt(session, sealed, Buffer.alloc(sealed.length)));
}

const value = Buffer.from('a value of twenty-six byte');

async function drive(
  bytes: number,
): Promise<{ out: string; status: number | null; signal: string | null; pid: number }> {
  const program = path.join(import.meta.dirname, 'driver.ts');
  const child = spawn(process.execPath, [program, faulty.path, 'aes', hsm.pin, String(bytes)], {
    env: { ...process.env, ...faulty.environment, NODE_OPTIONS: '' },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  let out = '';
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  const [status, signal] = await new Promise<[number | null, string | null]>((resolve) =>
    child.on('close', (...end) => resolve(end)),
  );
  return { out, status, signal, pid: child.pid ?? 0 };
}

before(async () => {
  hsm = await makeSoftHsm();
  await hsm.makeKeys({ aes: {}, mac: { generic: true } });
  faulty = faultyModule({ inner: hsm.module, innerEnv: hsm.environment });
  Object.assign(process.env, faulty.environment);
  module = new p.PKCS11();
  module.load(faulty.path);
});

after(async () => {
  module.C_Finalize();
  module.close();
  faulty.cleanup();
  await hsm.cleanup();
});

beforeEach(() => {
  faulty.control({});
  answer(() => module.C_Finalize());
  start();
});

test('the names are those of the module, in its order', () => {
  const header = readFileSync(path.join(import.meta.dirname, 'faulty.h'), 'utf8');
  const names = [...header.slice(header.indexOf('FAULTY_FUNCTIONS(X)')).matchAll(/X\((C_\w+)\)/g)].map(
    (found) => found[1],
  );
  assert.deepEqual(names, [...functionNames]);
});

test('without instructions everything passes, and is counted', () => {
  const before = faulty.counts();
  const iv = randomBytes(12);
  assert.deepEqual(unseal(seal(value, iv), iv), value);
  const after = faulty.counts();
  assert.equal(after.calls.C_Encrypt - before.calls.C_Encrypt, 1);
  assert.equal(after.calls.C_DecryptInit - before.calls.C_DecryptInit, 1);
  const mine = after.processes.find((entry) => entry.pid === process.pid);
  assert.equal(mine?.openSessions, 1);
  const second = module.C_OpenSession(slot, p.CKF_SERIAL_SESSION);
  assert.equal(faulty.counts().processes.find((entry) => entry.pid === process.pid)?.openSessions, 2);
  module.C_CloseSession(second);
  assert.equal(faulty.counts().processes.find((entry) => entry.pid === process.pid)?.openSessions, 1);
});

describe('answers', () => {
  test('for the next calls, after some, by length, and then no more', () => {
    faulty.control({ rules: [{ on: 'C_Encrypt', answer: 'CKR_DEVICE_ERROR', skip: 1, times: 2 }] });
    const codes = Array.from({ length: 4 }, () => answer(() => seal(value)));
    assert.deepEqual(codes, ['CKR_OK', 'CKR_DEVICE_ERROR', 'CKR_DEVICE_ERROR', 'CKR_OK']);

    faulty.control({ rules: [{ on: ['C_Encrypt', 'C_Decrypt'], answer: 0x54, length: 7 }] });
    assert.equal(
      answer(() => seal(Buffer.alloc(7))),
      'CKR_FUNCTION_NOT_SUPPORTED',
    );
    assert.equal(
      answer(() => seal(Buffer.alloc(8))),
      'CKR_OK',
    );
  });

  test('an operation is over after an error, unless told to stay open', () => {
    faulty.control({ rules: [{ on: 'C_Encrypt', answer: 'CKR_DEVICE_ERROR', times: 1, leaveOpen: true }] });
    assert.equal(
      answer(() => seal(value)),
      'CKR_DEVICE_ERROR',
    );
    assert.equal(
      answer(() => seal(value)),
      'CKR_OPERATION_ACTIVE',
    );
  });

  test('for a time', async () => {
    faulty.control({ rules: [{ on: '*', answer: 'CKR_DEVICE_ERROR', forMs: 150 }] });
    assert.equal(
      answer(() => seal(value)),
      'CKR_DEVICE_ERROR',
    );
    await sleep(200);
    assert.equal(
      answer(() => seal(value)),
      'CKR_OK',
    );
  });

  test('by chance', () => {
    faulty.control({ rules: [{ on: 'C_Encrypt', answer: 'CKR_FUNCTION_FAILED', oneIn: 2 }] });
    const codes = new Set(Array.from({ length: 64 }, () => answer(() => seal(value))));
    assert.deepEqual([...codes].sort(), ['CKR_FUNCTION_FAILED', 'CKR_OK']);
  });

  test('wrong data, and another code for a wrong tag', () => {
    const iv = randomBytes(12);
    const sealed = seal(value, iv);
    faulty.control({ rules: [{ on: 'C_Decrypt', garbage: true, times: 1 }] });
    assert.notDeepEqual(unseal(sealed, iv), value);
    assert.deepEqual(unseal(sealed, iv), value);
    const forged = Buffer.from(sealed);
    forged.writeUInt8(forged.readUInt8(3) ^ 1, 3);
    assert.equal(
      answer(() => unseal(forged, iv)),
      'CKR_GENERAL_ERROR',
    );
    faulty.control({ wrongTag: 'CKR_AEAD_DECRYPT_FAILED' });
    assert.equal(
      answer(() => unseal(forged, iv)),
      'CKR_AEAD_DECRYPT_FAILED',
    );
    assert.deepEqual(unseal(sealed, iv), value);
  });
});

describe('waiting', () => {
  test('concurrent callers wait side by side', async () => {
    const sessions = Array.from({ length: 4 }, () => module.C_OpenSession(slot, p.CKF_SERIAL_SESSION));
    faulty.control({ rules: [{ on: 'C_Encrypt', delayUs: 300_000 }] });
    for (const each of sessions) module.C_EncryptInit(each, gcm(randomBytes(12)), key);
    const began = performance.now();
    await Promise.all(sessions.map((each) => module.C_EncryptAsync(each, value, Buffer.alloc(64))));
    const took = performance.now() - began;
    assert.ok(took >= 290, `waited ${took} ms`);
    const most = faulty.counts().processes.find((entry) => entry.pid === process.pid)?.mostRunning;
    assert.ok(most !== undefined && most >= 4, `${most} at once`);
  });

  test('a stall ends when it is withdrawn', async () => {
    faulty.control({ rules: [{ on: 'C_Encrypt', stall: true }] });
    module.C_EncryptInit(session, gcm(randomBytes(12)), key);
    const call = module.C_EncryptAsync(session, value, Buffer.alloc(64));
    assert.equal(await Promise.race([call, sleep(150, 'still waiting')]), 'still waiting');
    faulty.control({});
    assert.equal((await call).length, value.length + 16);
  });

  test('a dead member of an HA group delays the first call of a process, once', () => {
    faulty.control({ deadMember: { timeoutMs: 200 } });
    const began = performance.now();
    seal(value);
    assert.ok(performance.now() - began >= 195);
    const calls = faulty.counts().calls.C_Encrypt;
    for (let n = 0; n < 10; n++) seal(value);
    assert.equal(faulty.counts().calls.C_Encrypt - calls, 10);
  });
});

describe('losses', () => {
  test('sessions', () => {
    faulty.loseSessions();
    assert.equal(
      answer(() => seal(value)),
      'CKR_SESSION_HANDLE_INVALID',
    );
    const staleKey = key;
    open();
    assert.notEqual(
      answer(() => seal(value)),
      'CKR_OK',
    );
    login();
    assert.equal(
      answer(() => seal(value)),
      'CKR_KEY_HANDLE_INVALID',
    );
    find();
    assert.notDeepEqual(key, staleKey);
    seal(value);
    faulty.loseSessions('CKR_SESSION_CLOSED');
    assert.equal(
      answer(() => seal(value)),
      'CKR_SESSION_CLOSED',
    );
  });

  test('the login', () => {
    faulty.loseLogin();
    assert.equal(
      answer(() => seal(value)),
      'CKR_USER_NOT_LOGGED_IN',
    );
    module.C_FindObjectsInit(session, [{ type: p.CKA_LABEL, value: 'aes' }]);
    assert.equal(module.C_FindObjects(session, 1).length, 0, 'a private key cannot be seen');
    module.C_FindObjectsFinal(session);
    login();
    find();
    seal(value);
  });

  test('object handles', () => {
    faulty.staleObjects();
    assert.equal(
      answer(() => seal(value)),
      'CKR_KEY_HANDLE_INVALID',
    );
    assert.equal(
      answer(() => module.C_GetAttributeValue(session, key, [{ type: p.CKA_LABEL }])),
      'CKR_OBJECT_HANDLE_INVALID',
    );
    find();
    seal(value);
  });

  test('the token, which comes back', () => {
    faulty.control({ removed: {} });
    assert.equal(module.C_GetSlotList(true).length, 0);
    assert.equal(
      answer(() => seal(value)),
      'CKR_DEVICE_REMOVED',
    );
    assert.equal(
      answer(() => module.C_OpenSession(slot, p.CKF_SERIAL_SESSION)),
      'CKR_TOKEN_NOT_PRESENT',
    );
    faulty.control({});
    assert.equal(
      answer(() => seal(value)),
      'CKR_SESSION_HANDLE_INVALID',
    );
    open();
    login();
    find();
    seal(value);
  });

  test('the token, whose return needs C_Finalize', () => {
    faulty.control({ removed: { untilInitialize: true } });
    assert.equal(
      answer(() => seal(value)),
      'CKR_DEVICE_REMOVED',
    );
    faulty.control({});
    assert.equal(
      answer(() => module.C_OpenSession(slot, p.CKF_SERIAL_SESSION)),
      'CKR_TOKEN_NOT_PRESENT',
    );
    module.C_Finalize();
    start();
    seal(value);
  });

  test('the device, until C_Finalize and C_Initialize', () => {
    faulty.wedge();
    assert.equal(
      answer(() => seal(value)),
      'CKR_DEVICE_ERROR',
    );
    assert.equal(
      answer(() => module.C_GetSlotList(true)),
      'CKR_DEVICE_ERROR',
    );
    module.C_Finalize();
    start();
    seal(value);
  });

  test('the device, until a new process', async () => {
    faulty.wedge('new-process');
    module.C_Finalize();
    module.C_Initialize({ flags: p.CKF_OS_LOCKING_OK });
    assert.equal(
      answer(() => module.C_GetSlotList(true)),
      'CKR_DEVICE_ERROR',
    );
    assert.equal((await drive(10)).out, '26');
    faulty.wedge();
  });

  test('sessions, under calls on many threads', async () => {
    const codes = new Set<string>();
    for (let round = 0; round < 40; round++) {
      const sessions = Array.from({ length: 4 }, () => module.C_OpenSession(slot, p.CKF_SERIAL_SESSION));
      answer(login);
      find();
      for (const each of sessions) module.C_EncryptInit(each, gcm(randomBytes(12)), key);
      const calls = sessions.map((each) =>
        module.C_EncryptAsync(each, Buffer.alloc(65_536), Buffer.alloc(65_552)).then(
          () => codes.add('CKR_OK'),
          (error: unknown) => codes.add(error instanceof p.Pkcs11Error ? codeName(error.code) : String(error)),
        ),
      );
      faulty.loseSessions();
      await Promise.all(calls);
      open();
    }
    for (const seen of codes) assert.match(seen, /^CKR_(OK|SESSION_HANDLE_INVALID)$/);
    assert.equal(faulty.counts().processes.find((entry) => entry.pid === process.pid)?.openSessions, 1);
  });
});

describe('tokens that differ', () => {
  test('CloudHSM writes its IV into a buffer of zeros and takes 16 KiB', () => {
    faulty.control({ iv: { mode: 'cloudhsm' } });
    assert.equal(
      answer(() => seal(value)),
      'CKR_MECHANISM_PARAM_INVALID',
    );
    const iv = Buffer.alloc(12);
    const sealed = seal(value, iv);
    assert.notDeepEqual(iv, Buffer.alloc(12));
    assert.deepEqual(unseal(sealed, iv), value);
    assert.equal(seal(Buffer.alloc(16_384), Buffer.alloc(12)).length, 16_400);
    assert.equal(
      answer(() => seal(Buffer.alloc(16_385), Buffer.alloc(12))),
      'CKR_DATA_LEN_RANGE',
    );
    assert.equal(
      answer(() => unseal(Buffer.alloc(16_401), iv)),
      'CKR_ENCRYPTED_DATA_LEN_RANGE',
    );
    assert.deepEqual(unseal(sealed, iv), value, 'the session works on');
  });

  test('nShield writes its IV into the buffer, at once if told', () => {
    faulty.control({ iv: { mode: 'nshield', at: 'init' } });
    const iv = Buffer.alloc(12, 9);
    module.C_EncryptInit(session, gcm(iv), key);
    assert.notDeepEqual(iv, Buffer.alloc(12, 9));
    const made = Buffer.from(iv);
    const sealed = Buffer.from(module.C_Encrypt(session, value, Buffer.alloc(64)));
    assert.deepEqual(iv, made);
    assert.deepEqual(unseal(sealed, iv), value);
  });

  test('Luna in FIPS mode appends its IV of 16 bytes', () => {
    faulty.control({ iv: { mode: 'luna-fips' } });
    assert.equal(
      answer(() => seal(value)),
      'CKR_MECHANISM_PARAM_INVALID',
    );
    const sealed = seal(value, Buffer.alloc(0));
    assert.equal(sealed.length, value.length + 16 + 16);
    assert.deepEqual(unseal(sealed.subarray(0, -16), sealed.subarray(-16)), value);
    module.C_EncryptInit(session, gcm(Buffer.alloc(0)), key);
    assert.equal(
      answer(() => module.C_Encrypt(session, value, Buffer.alloc(value.length + 16))),
      'CKR_BUFFER_TOO_SMALL',
    );
    assert.equal(module.C_Encrypt(session, value, Buffer.alloc(value.length + 32)).length, value.length + 32);
  });

  test('a bad HSM leaves zeros, repeats or cuts its IV', () => {
    faulty.control({ iv: { mode: 'cloudhsm', fault: 'zero' } });
    const iv = Buffer.alloc(12);
    const sealed = seal(value, iv);
    assert.deepEqual(iv, Buffer.alloc(12));
    faulty.control({});
    assert.deepEqual(unseal(sealed, Buffer.alloc(12)), value, 'it was the IV indeed');

    faulty.control({ iv: { mode: 'nshield', fault: { pool: 2 } } });
    const ivs = Array.from({ length: 4 }, () => {
      const buffer = Buffer.alloc(12);
      seal(value, buffer);
      return buffer.toString('hex');
    });
    assert.equal(new Set(ivs).size, 2);
    assert.equal(ivs[0], ivs[2]);

    faulty.control({ iv: { mode: 'luna-fips', fault: 'short' } });
    assert.equal(seal(value, Buffer.alloc(0)).length, value.length + 16 + 12);
  });

  test('hidden mechanisms, GCM in one part only', () => {
    faulty.control({ hide: ['CKM_AES_GCM', 'CKM_AES_ECB'] });
    const list = module.C_GetMechanismList(slot);
    assert.ok(!list.includes(p.CKM_AES_GCM) && !list.includes(p.CKM_AES_ECB) && list.includes(p.CKM_AES_CBC_PAD));
    assert.equal(
      answer(() => seal(value)),
      'CKR_MECHANISM_INVALID',
    );
    assert.equal(
      answer(() => module.C_GetMechanismInfo(slot, p.CKM_AES_ECB)),
      'CKR_MECHANISM_INVALID',
    );

    faulty.control({ gcmSinglePart: true });
    module.C_EncryptInit(session, gcm(randomBytes(12)), key);
    assert.equal(
      answer(() => module.C_EncryptUpdate(session, value, Buffer.alloc(64))),
      'CKR_FUNCTION_NOT_SUPPORTED',
    );
  });

  test('another name, other flags, few sessions', () => {
    faulty.control({
      tokenInfo: {
        manufacturer: 'Cavium Networks',
        model: 'NITROX-III',
        firmware: [7, 3],
        set: ['CKF_USER_PIN_COUNT_LOW'],
        clear: ['CKF_RNG'],
      },
      libraryInfo: { description: 'A vendor library' },
      maxSessions: 4,
    });
    const info = module.C_GetTokenInfo(slot);
    assert.equal(info.manufacturerID.trim(), 'Cavium Networks');
    assert.equal(info.model.trim(), 'NITROX-III');
    assert.deepEqual(info.firmwareVersion, { major: 7, minor: 3 });
    assert.equal(info.flags & p.CKF_USER_PIN_COUNT_LOW, p.CKF_USER_PIN_COUNT_LOW);
    assert.equal(info.flags & p.CKF_RNG, 0);
    assert.equal(module.C_GetInfo().libraryDescription.trim(), 'A vendor library');
    const codes = Array.from({ length: 4 }, () => answer(() => module.C_OpenSession(slot, p.CKF_SERIAL_SESSION)));
    assert.deepEqual(codes, ['CKR_OK', 'CKR_OK', 'CKR_OK', 'CKR_SESSION_COUNT']);
  });
});

describe('death', () => {
  test('by each signal, in the calls told, over processes', async () => {
    faulty.control({ rules: [{ on: 'C_Encrypt', crash: 'segv', length: 666, times: 2 }] });
    assert.equal((await drive(666)).signal, 'SIGSEGV');
    assert.deepEqual((await drive(100)).out, '116');
    assert.equal((await drive(666)).signal, 'SIGSEGV');
    assert.deepEqual((await drive(666)).out, '682', 'twice, no more');
    faulty.control({ rules: [{ on: 'C_Login', crash: 'abort' }] });
    assert.equal((await drive(1)).signal, 'SIGABRT');
    faulty.control({ rules: [{ on: 'C_Initialize', crash: 'exit', after: true }] });
    assert.equal((await drive(1)).status, 3);
  });

  test('a hang ends with the process only', async () => {
    faulty.control({ rules: [{ on: 'C_FindObjectsInit', hang: true }] });
    const known = new Set(faulty.counts().processes.map((entry) => entry.pid));
    const searches = faulty.counts().calls.C_FindObjectsInit;
    const run = drive(1);
    let pid: number | undefined;
    while (pid === undefined || faulty.counts().calls.C_FindObjectsInit === searches) {
      await sleep(10);
      pid = faulty.counts().processes.find((entry) => !known.has(entry.pid))?.pid;
    }
    // Counted first, then the rules are read: a moment for that.
    await sleep(100);
    faulty.control({});
    assert.equal(await Promise.race([run, sleep(200, 'hangs')]), 'hangs');
    process.kill(pid, 'SIGKILL');
    assert.equal((await run).signal, 'SIGKILL');
  });

  test('C_Login is counted with its answers, PINs apart, over processes', async () => {
    const earlier = faulty.counts().logins.length;
    faulty.control({ rules: [{ on: 'C_Login', answer: 'CKR_PIN_INCORRECT', times: 1 }] });
    const first = await drive(1);
    assert.notEqual(first.status, 0);
    const second = await drive(1);
    assert.equal(second.status, 0);
    module.C_Logout(session);
    assert.equal(
      answer(() => module.C_Login(session, p.CKU_USER, 'wrong1')),
      'CKR_PIN_INCORRECT',
    );
    const [one, two, three, ...more] = faulty.counts().logins.slice(earlier);
    assert.deepEqual(more, []);
    assert.deepEqual([one?.answer, one?.pid], ['CKR_PIN_INCORRECT', first.pid]);
    assert.deepEqual([two?.answer, two?.pid], ['CKR_OK', second.pid]);
    assert.deepEqual([three?.answer, three?.pid], ['CKR_PIN_INCORRECT', process.pid]);
    assert.equal(one?.pinHash, two?.pinHash);
    assert.notEqual(one?.pinHash, three?.pinHash);
  });
});
