/**
 * What `operate` of pkcs11.node must withstand, as a program of its own: it runs on the addon as it is shipped, and on one
 * with sanitizers, which must be loaded before Node's own code. Bare Node, no loader. Reads a DriverJob on stdin; fails at
 * the first thing that is wrong.
 */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import type pkcs11js from 'pkcs11js';
import { faultyModule } from '../../module/index.ts';

export interface DriverJob {
  readonly addon: string;
  readonly inner: string;
  readonly innerEnv: Readonly<Record<string, string>>;
  readonly label: string;
  readonly pin: string;
  readonly key: string;
  /** Look through this process's memory for what should be zeroed: not with ASan's address space. */
  readonly searchMemory: boolean;
}

type Addon = typeof pkcs11js & { readonly operate: (...args: unknown[]) => Promise<number> };

const job = JSON.parse(readFileSync(0, 'utf8')) as DriverJob;
const faulty = faultyModule({ inner: job.inner, innerEnv: job.innerEnv });
Object.assign(process.env, faulty.environment);
const addon = createRequire(import.meta.url)(job.addon) as Addon;
const collect = (globalThis as { gc?: () => void }).gc ?? assert.fail('run with --expose-gc');

const [ENCRYPT, DECRYPT, SIGN] = [0, 1, 2] as const;
const TAG = 16;
const AAD = Buffer.from('associated data');

function connect(): { module: pkcs11js.PKCS11; session: Buffer; key: Buffer } {
  const module = new addon.PKCS11();
  module.load(faulty.path);
  module.C_Initialize({ flags: addon.CKF_OS_LOCKING_OK });
  const slot = module
    .C_GetSlotList(true)
    .find((candidate) => module.C_GetTokenInfo(candidate).label.trim() === job.label);
  assert.ok(slot);
  const session = module.C_OpenSession(slot, addon.CKF_SERIAL_SESSION);
  module.C_Login(session, addon.CKU_USER, job.pin);
  module.C_FindObjectsInit(session, [{ type: addon.CKA_LABEL, value: Buffer.from(job.key) }]);
  const [key] = module.C_FindObjects(session, 1) as unknown as Buffer[];
  module.C_FindObjectsFinal(session);
  assert.ok(key);
  return { module, session, key };
}

const { module, session, key } = connect();

const gcm = (operation: number, iv: Buffer, input: Buffer, output: Buffer): Promise<number> =>
  addon.operate(module, operation, session, key, addon.CKM_AES_GCM, iv, AAD, 128, input, output);

async function seal(plaintext: Buffer, iv = Buffer.alloc(12, 7)): Promise<Buffer> {
  const output = Buffer.alloc(plaintext.length + TAG);
  assert.equal(await gcm(ENCRYPT, iv, plaintext, output), output.length);
  return output;
}

async function roundTrips(): Promise<void> {
  for (const bytes of [0, 1, 15, 16, 17, 1_024, 65_000, 1_048_576]) {
    const plaintext = Buffer.alloc(bytes, 0xa5);
    const output = Buffer.alloc(bytes + TAG);
    const length = await gcm(DECRYPT, Buffer.alloc(12, 7), await seal(plaintext), output);
    assert.deepEqual(output.subarray(0, length), plaintext);
  }
  for (const at of ['init', 'encrypt'] as const) {
    faulty.control({ iv: { mode: 'cloudhsm', at } });
    const iv = Buffer.alloc(12);
    const sealed = await seal(Buffer.alloc(40, 1), iv);
    assert.ok(
      iv.some((byte) => byte !== 0),
      `the IV that the HSM wrote (${at})`,
    );
    faulty.control({});
    const output = Buffer.alloc(56);
    assert.deepEqual(output.subarray(0, await gcm(DECRYPT, iv, sealed, output)), Buffer.alloc(40, 1));
  }
  faulty.control({ iv: { mode: 'luna-fips' } });
  assert.equal(await gcm(ENCRYPT, Buffer.alloc(0), Buffer.alloc(40), Buffer.alloc(72)), 72);
  faulty.control({});
  const cbc = Buffer.alloc(32);
  const way = [session, key, addon.CKM_AES_CBC, Buffer.alloc(16), null, 0] as const;
  assert.equal(await addon.operate(module, ENCRYPT, ...way, Buffer.alloc(32), cbc), 32);
  assert.notDeepEqual(cbc, Buffer.alloc(32));
  const ecb = [session, key, addon.CKM_AES_ECB, null, null, 0] as const;
  assert.equal(await addon.operate(module, ENCRYPT, ...ecb, Buffer.alloc(16), Buffer.alloc(32)), 16);
}

/** The length that the module gives is nobody's measure: nothing is copied by it, nothing allocated. */
async function lies(): Promise<void> {
  for (const claims of [-1, -2, 2 ** 31, 2 ** 32, 2 ** 53, 57]) {
    faulty.control({ rules: [{ on: ['C_Encrypt', 'C_Decrypt'], claims }] });
    for (const operation of [ENCRYPT, DECRYPT]) {
      const input = operation === DECRYPT ? Buffer.from(sealed40) : Buffer.alloc(40);
      const output = Buffer.alloc(56, 0xee);
      const length = await gcm(operation, Buffer.alloc(12, 7), input, output);
      assert.ok(length > output.length, `${length}`);
      assert.deepEqual(output, Buffer.alloc(56, 0xee), 'nothing was given');
    }
  }
  faulty.control({ rules: [{ on: 'C_Encrypt', garbage: true }] });
  assert.notDeepEqual(await seal(Buffer.alloc(40)), sealed40);
  // CKR_OK with nothing done: zeros, and not what was at that place before.
  faulty.control({ rules: [{ on: 'C_Encrypt', answer: 'CKR_OK' }] });
  for (let turn = 0; turn < 50; turn++) {
    assert.deepEqual(await seal(Buffer.alloc(1_000, 0x77)), Buffer.alloc(1_016));
  }
  faulty.control({});
}

const failure = async (work: Promise<unknown>): Promise<Error & { method?: string }> =>
  work.then(
    () => assert.fail('it succeeded'),
    (error: unknown) => error as Error,
  );

async function failures(): Promise<void> {
  const cases = [
    [{ on: 'C_DecryptInit', answer: 'CKR_KEY_FUNCTION_NOT_PERMITTED' }, 'CKR_KEY_FUNCTION_NOT_PERMITTED:104'],
    [{ on: 'C_Decrypt', answer: 'CKR_DEVICE_ERROR' }, 'CKR_DEVICE_ERROR:48'],
    [{ on: 'C_Decrypt', answer: 0x80000123 }, 'CKR_VENDOR_DEFINED:2147483939'],
  ] as const;
  for (const [rule, message] of cases) {
    faulty.control({ rules: [rule] });
    const error = await failure(gcm(DECRYPT, Buffer.alloc(12, 7), sealed40, Buffer.alloc(56)));
    assert.deepEqual([error.message, error.method], [message, rule.on]);
  }
  faulty.control({});
  const error = await failure(
    addon.operate(module, SIGN, session, key, addon.CKM_SHA256_HMAC, null, null, 0, AAD, AAD),
  );
  assert.equal(error.method, 'C_SignInit');
  const good = [module, 0, session, key, 1, null, null, 0, AAD, AAD] as const;
  const wrong: unknown[][] = [[], good.slice(0, 9), [...good, 1]];
  for (const [at, value] of [
    [0, {}],
    [0, Object.create(addon.PKCS11.prototype)],
    [0, new addon.PKCS11()],
    [0, 'PKCS11'],
    [1, 3],
    [1, -1],
    [1, 'C_Encrypt'],
    [2, Buffer.alloc(7)],
    [2, 1],
    [3, Buffer.alloc(9)],
    [4, '1'],
    [5, undefined],
    [5, 'iv'],
    [6, 5],
    [7, null],
    [8, null],
    [8, 'text'],
    [9, {}],
  ] as const) {
    wrong.push(good.map((argument, index) => (index === at ? (value as unknown) : argument)));
  }
  for (const args of wrong) assert.throws(() => void addon.operate(...args), TypeError, JSON.stringify(args));
}

/** While the job runs its caller may do what he likes with his memory. */
async function lifetimes(): Promise<void> {
  const stall = (): void => faulty.control({ rules: [{ on: 'C_Encrypt', stall: true }] });
  stall();
  const [iv, plaintext, output] = [Buffer.alloc(12, 7), Buffer.alloc(40), Buffer.alloc(56)];
  const changed = gcm(ENCRYPT, iv, plaintext, output);
  plaintext.fill(9);
  iv.fill(9);
  for (let turn = 0; turn < 5; turn++) collect();
  await sleep(50);
  faulty.control({});
  assert.equal(await changed, 56);
  assert.deepEqual(output, sealed40, 'made of what was there when it was called');

  stall();
  const own = Buffer.from(new ArrayBuffer(56));
  const detached = gcm(ENCRYPT, Buffer.alloc(12, 7), Buffer.alloc(40), own);
  structuredClone(own.buffer, { transfer: [own.buffer] });
  faulty.control({});
  assert.match((await failure(detached)).message, /CKR_FUNCTION_CANCELED/);

  stall();
  // Nobody keeps the object, nor any Buffer.
  let alone: Promise<number> | undefined = (() => {
    const other = new addon.PKCS11();
    other.load(faulty.path);
    const way = [session, key, addon.CKM_AES_GCM, Buffer.alloc(12), AAD, 128] as const;
    return addon.operate(other, ENCRYPT, ...way, Buffer.alloc(40), Buffer.alloc(56));
  })();
  for (let turn = 0; turn < 20; turn++) {
    collect();
    await sleep(5);
  }
  faulty.control({});
  assert.equal(await alone, 56);
  alone = undefined;
  collect();
}

async function atOnce(): Promise<void> {
  const slot = module.C_GetSessionInfo(session).slotID;
  const sessions = Array.from({ length: 32 }, () => module.C_OpenSession(slot, addon.CKF_SERIAL_SESSION));
  await Promise.all(
    sessions.map(async (own) => {
      for (let turn = 0; turn < 50; turn++) {
        const output = Buffer.alloc(56);
        const way = [own, key, addon.CKM_AES_GCM, Buffer.alloc(12, 7), AAD, 128] as const;
        assert.equal(await addon.operate(module, ENCRYPT, ...way, Buffer.alloc(40), output), 56);
        assert.deepEqual(output, sealed40);
      }
    }),
  );
}

/** Neither a plaintext that the module was given nor one that it gave is left in memory. */
async function zeroed(): Promise<void> {
  const inverted = Buffer.from(Array.from({ length: 24 }, (_, at) => 0x31 ^ (at * 37) ^ 0x5a));
  const plaintext = Buffer.alloc(960);
  for (let at = 0; at < plaintext.length; at++) plaintext[at] = (inverted[at % inverted.length] ?? 0) ^ 0xff;
  assert.ok(found(inverted), 'it is found where it is');
  // The module's own copies are not ours to clear: it does nothing.
  faulty.control({ rules: [{ on: 'C_Encrypt', answer: 'CKR_OK' }] });
  const [iv, output] = [Buffer.alloc(12, 7), Buffer.alloc(1_000)];
  for (let turn = 0; turn < 20; turn++) await gcm(ENCRYPT, iv, plaintext, output);
  plaintext.fill(0);
  assert.ok(!found(inverted), 'it is still in memory');
  faulty.control({});
}

/** Allocated before what is looked for, so that it does not take the freed places of that. */
const chunk = Buffer.alloc(1_048_576);

/** Whether the bytes whose inverse this is are anywhere in this process. */
function found(inverted: Buffer): boolean {
  const memory = openSync('/proc/self/mem', 'r');
  try {
    for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
      const [, from = '0', to = '0'] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
      const end = BigInt(`0x${to}`);
      // Each look begins a little before the end of the last.
      for (let at = BigInt(`0x${from}`); at < end; at += BigInt(chunk.length - inverted.length)) {
        const bytes = Number(end - at < BigInt(chunk.length) ? end - at : BigInt(chunk.length));
        // It comes upon itself, too.
        chunk.fill(0);
        readSync(memory, chunk, 0, bytes, at);
        for (let index = 0; index < bytes; index++) chunk[index] = (chunk[index] ?? 0) ^ 0xff;
        if (chunk.subarray(0, bytes).includes(inverted)) return true;
      }
    }
    return false;
  } finally {
    closeSync(memory);
  }
}

const sealed40 = await seal(Buffer.alloc(40));
for (const part of [roundTrips, lies, failures, lifetimes, ...(job.searchMemory ? [zeroed] : []), atOnce]) {
  console.log(part.name);
  await part();
}
faulty.cleanup();
console.log('well');
// A sanitizer that found something has ended this process already; what is left must not wait for the pool's threads.
process.exit(0);
