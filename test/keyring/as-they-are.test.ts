/** Keys as modules, policies and other people leave them: strays beside them, check values refused, keys replaced. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ownCall } from '../../src/call/index.ts';
import { toKmsError } from '../../src/errors/index.ts';
import { CkrError, type Pkcs11Module } from '../../src/token/pkcs11/module.ts';
import { Attributes } from '../../src/token/process/key-attributes.ts';
import { assertFails, Bench, type Host } from '../token/support/installation.ts';

let bench: Bench;
const CKA_ID = Buffer.from('00112233445566778899aabbccddeeff', 'hex');
const NO_CHECK_VALUE = { hide: ['CKM_AES_ECB', 'CKM_AES_CBC'] } as const;

before(async () => {
  bench = await Bench.make({ active: {} });
  await bench.hsm.makeKey('policy', { id: CKA_ID });
  await bench.hsm.makeKey('short', {});
  await bench.hsm.makeKey('short', { generic: true, size: 104 });
  await bench.hsm.makeKey('mute', {});
  await bench.hsm.makeKey('mute', { generic: true, attributes: { CKA_SIGN: false } });
  await bench.hsm.makeKey('alone', { generic: true });
  await bench.hsm.makeKey('open-mac', {});
  await bench.hsm.makeKey('open-mac', { generic: true, attributes: { CKA_SENSITIVE: false, CKA_EXTRACTABLE: true } });
  await bench.hsm.makeKey('imported', { value: Buffer.alloc(32, 0x77) });
});
afterEach(() => bench.reset());
after(() => bench.cleanup());

const idOf = (ciphertext: Buffer): string => ciphertext.toString('hex', 10, 26);
const found = (host: Host) => host.keyring.keys()[0]?.found[0];

describe('an object beside a key', () => {
  for (const label of ['short', 'mute']) {
    for (const state of ['active', 'decrypt'] as const) {
      test(`that makes no HMAC ("${label}") is left out and named, beside a key to ${state}`, async () => {
        const keys = state === 'active' ? [{ label }] : [{ label: 'active' }, { label }];
        const host = await bench.readyHost({ keys });
        assert.deepEqual(await host.decrypt(await host.encrypt(Buffer.from('x'))), Buffer.from('x'));
        const note = host.keyring.warnings().find((warning) => warning.includes(`"${label}"`));
        assert.match(note ?? '', /GENERIC_SECRET beside it is left out: .*CKR_KEY_/);
      });
    }
  }

  test('alone under the label is said, and takes no part in the others', async () => {
    const host = await bench.readyHost({ keys: [{ label: 'active' }, { label: 'alone', state: 'decrypt' }] });
    await host.encrypt(Buffer.alloc(1));
    assert.match(host.keyring.keys()[1]?.problem ?? '', /no AES key labelled "alone" \(.*GENERIC_SECRET/);
  });
});

describe('the second key of scheme 3', () => {
  test('is held to the same rules as the first', async () => {
    bench.faulty.control({ hide: ['CKM_AES_GCM'] });
    const careless = await bench.readyHost({ keys: [{ label: 'open-mac', allowUnsafe: true }] });
    const ciphertext = await careless.encrypt(Buffer.from('x'));
    assert.ok(careless.keyring.warnings().some((warning) => /second key.*CKA_EXTRACTABLE/.test(warning)));
    await careless.close();
    const host = await bench.readyHost({ keys: [{ label: 'open-mac' }] });
    const error = await assertFails(host.encrypt(Buffer.alloc(1)), 'key-unable');
    assert.match(error.message, /second key is unsafe: CKA_SENSITIVE is false/);
    await assertFails(host.decrypt(ciphertext), 'key-unable');
  });

  test('keeps nothing from what does not use it', async () => {
    const host = await bench.readyHost({ keys: [{ label: 'open-mac' }] });
    assert.deepEqual(await host.decrypt(await host.encrypt(Buffer.from('x'))), Buffer.from('x'));
  });
});

test('an imported key is used with a warning', async () => {
  const host = await bench.readyHost({ keys: [{ label: 'imported' }] });
  await host.encrypt(Buffer.alloc(1));
  assert.ok(host.keyring.warnings().some((warning) => warning.includes('"imported": CKA_LOCAL is false')));
});

test('a missing key to decrypt is a warning, and one that is there is not', async () => {
  const host = await bench.readyHost({
    keys: [{ label: 'active' }, { label: 'imported', state: 'decrypt' }, { label: 'absent', state: 'decrypt' }],
  });
  await host.encrypt(Buffer.alloc(1));
  const warnings = host.keyring.warnings().filter((warning) => warning.includes('holds no AES key'));
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', /labelled "absent"/);
});

test('a search goes on until it is given no handle more', async () => {
  const label = 'twins';
  await bench.hsm.makeKey(label);
  await bench.hsm.makeKey(label);
  bench.faulty.control({ handlesAtOnce: 1 });
  const host = await bench.readyHost({ keys: [{ label }] });
  await assertFails(host.encrypt(Buffer.alloc(1)), 'key-ambiguous');
});

describe('a check value that a policy forbids later', () => {
  test('leaves what this host wrote readable, and encrypts under an id of now', async () => {
    const stateDir = bench.newStateDir();
    const first = await bench.readyHost({ keys: [{ label: 'policy' }], stateDir });
    const before = await first.encrypt(Buffer.from('before'));
    await first.close();
    bench.faulty.control(NO_CHECK_VALUE);
    const host = await bench.readyHost({ keys: [{ label: 'policy' }], stateDir });
    assert.deepEqual(await host.decrypt(before), Buffer.from('before'));
    const now = await host.encrypt(Buffer.from('now'));
    assert.notEqual(idOf(now), idOf(before));
    assert.deepEqual(await host.decrypt(now), Buffer.from('now'));
    assert.equal(found(host)?.idKind, 'cka-id');
    const changed = Buffer.from(before);
    changed.writeUInt8(changed.readUInt8(changed.length - 1) ^ 1, changed.length - 1);
    const error = await assertFails(host.decrypt(changed), 'unproven');
    assert.equal(error.status, 'FAILED_PRECONDITION');
  });

  test('where state_dir is lost, key_id names the ids', async () => {
    const first = await bench.readyHost({ keys: [{ label: 'policy' }] });
    const before = await first.encrypt(Buffer.from('before'));
    await first.close();
    bench.faulty.control(NO_CHECK_VALUE);
    const lost = await bench.readyHost({ keys: [{ label: 'policy' }] });
    const error = await assertFails(lost.decrypt(before), 'key-not-listed');
    assert.match(error.message, /key_id: \[/);
    const current = found(lost)?.keyIds[0] ?? '';
    const one = await bench.readyHost({ keys: [{ label: 'policy', keyId: idOf(before) }] });
    assert.deepEqual(await one.decrypt(before), Buffer.from('before'));
    const refused = await assertFails(one.encrypt(Buffer.alloc(1)), 'key-unable');
    assert.ok(refused.message.includes(`key_id: [${idOf(before)}, ${current}]`));
    const both = await bench.readyHost({ keys: [{ label: 'policy', keyId: idOf(before), moreIds: [current] }] });
    assert.equal(idOf(await both.encrypt(Buffer.alloc(1))), current);
    assert.deepEqual(await both.decrypt(before), Buffer.from('before'));
  });

  test('while the service runs', async () => {
    const host = await bench.readyHost({ keys: [{ label: 'policy' }] });
    const before = await host.encrypt(Buffer.from('before'));
    bench.faulty.control({
      ...NO_CHECK_VALUE,
      rules: [{ on: 'C_EncryptInit', answer: 'CKR_DEVICE_ERROR', times: 2 }],
    });
    bench.faulty.loseSessions();
    // Two logins take longer than an absence is hidden: until then it is away, and nothing worse.
    const until = performance.now() + 20_000;
    for (;;) {
      const answer = await host.decrypt(before).catch((error: unknown) => toKmsError(error));
      if (Buffer.isBuffer(answer)) {
        assert.deepEqual(answer, Buffer.from('before'));
        break;
      }
      assert.equal(answer.status, 'UNAVAILABLE', answer.message);
      assert.ok(performance.now() < until, answer.message);
    }
  });

  test('trouble that passes never turns the active key into what its CKA_ID names', async () => {
    for (const answer of ['CKR_DEVICE_ERROR', 'CKR_GENERAL_ERROR', 'CKR_FUNCTION_FAILED']) {
      bench.faulty.control({ rules: [{ on: 'C_EncryptInit', answer, times: 9 }] });
      const host = await bench.readyHost({ keys: [{ label: 'policy' }] });
      await host.encrypt(Buffer.alloc(1));
      assert.equal(found(host)?.idKind, 'check-value', answer);
      await host.close();
    }
  });
});

test('an attribute that is only shown may fail with any code, one that decides only with a code for itself', () => {
  const answering = (ckr: string): Attributes => {
    const attribute = (): never => {
      throw new CkrError('C_GetAttributeValue', ckr);
    };
    return new Attributes({ attribute } as unknown as Pkcs11Module, Buffer.alloc(8));
  };
  for (const ckr of ['CKR_FUNCTION_FAILED', 'CKR_GENERAL_ERROR', 'CKR_0x80000123']) {
    assert.equal(answering(ckr).flags(Buffer.alloc(8)).modifiable, undefined, ckr);
  }
  assert.throws(() => answering('CKR_DEVICE_ERROR').flags(Buffer.alloc(8)), CkrError);
  assert.throws(() => answering('CKR_GENERAL_ERROR').number(Buffer.alloc(8), 0x100, { needed: true }), CkrError);
});

test('a key that was replaced under the active label does not encrypt until key_id says so', async () => {
  const label = 'swapped';
  const stateDir = bench.newStateDir();
  await bench.hsm.makeKey(label);
  const first = await bench.readyHost({ keys: [{ label }], stateDir });
  await first.encrypt(Buffer.alloc(1));
  await first.close();
  await bench.hsm.destroyKey(label);
  await bench.hsm.makeKey(label);
  for (let start = 0; start < 2; start++) {
    const host = await bench.readyHost({ keys: [{ label }], stateDir });
    const error = await assertFails(host.encrypt(Buffer.alloc(1)), 'key-replaced');
    assert.equal(error.status, 'FAILED_PRECONDITION');
    await host.close();
  }
  const seen = await bench.readyHost({ keys: [{ label }] });
  const keyId = found(seen)?.keyIds[0] ?? '';
  const named = await bench.readyHost({ keys: [{ label, keyId }], stateDir });
  assert.equal(idOf(await named.encrypt(Buffer.alloc(1))), keyId);
  await named.close();
  const later = await bench.readyHost({ keys: [{ label }], stateDir });
  assert.equal(idOf(await later.encrypt(Buffer.alloc(1))), keyId);
});

describe('a key to decrypt that is deleted while it is listed', () => {
  const problem = (host: Host): string | undefined => host.keyring.keys()[1]?.problem;

  test('is missing after the next look, in report, warnings and log', async () => {
    await bench.hsm.makeKey('brief');
    const host = await bench.readyHost({ keys: [{ label: 'active' }, { label: 'brief' }], lookMs: 200 });
    assert.equal(problem(host), undefined);
    await bench.hsm.destroyKey('brief');
    for (let waited = 0; problem(host) === undefined; waited += 50) {
      assert.ok(waited < 20_000, 'it was not looked for');
      await sleep(50);
    }
    assert.equal(host.keyring.keys()[1]?.found.length, 0);
    assert.ok(host.keyring.warnings().some((warning) => warning.includes('"brief"')));
    assert.ok(host.log.lines.some(({ message }) => message.includes('"brief"')));
    await host.encrypt(Buffer.alloc(1));
  });

  test('is missing at once for somebody who asks', async () => {
    await bench.hsm.makeKey('asked');
    const host = await bench.readyHost({ keys: [{ label: 'active' }, { label: 'asked' }] });
    assert.equal((await host.keyring.searchedKeys(ownCall(10_000)))[1]?.problem, undefined);
    await bench.hsm.destroyKey('asked');
    assert.notEqual((await host.keyring.searchedKeys(ownCall(10_000)))[1]?.problem, undefined);
  });
});

describe('create: true', () => {
  const generated = (): number => bench.faulty.counts().calls.C_GenerateKey;
  const made = (host: Host): Promise<unknown> => host.encrypt(Buffer.alloc(1), 4_000).catch((error: unknown) => error);

  test('makes one key where the token does not show what it made', async () => {
    bench.faulty.control({ hideObjects: true });
    const before = generated();
    const stateDir = bench.newStateDir();
    for (let start = 0; start < 2; start++) {
      const host = await bench.readyHost({ keys: [{ label: 'unseen', create: true }], stateDir });
      await made(host);
      await sleep(6_000);
      await host.close();
    }
    assert.equal(generated(), before + 1);
  });

  test('gives up after three errors of C_GenerateKey', async () => {
    bench.faulty.control({ rules: [{ on: 'C_GenerateKey', answer: 'CKR_DEVICE_MEMORY' }] });
    const before = generated();
    const host = await bench.readyHost({ keys: [{ label: 'never', create: true }] });
    await made(host);
    await sleep(6_000);
    assert.ok(generated() - before <= 3, `${generated() - before}`);
    bench.faulty.control({});
    const byHand = await host.keyring.createKey('never', ownCall(5_000));
    assert.deepEqual(byHand.problems, []);
  });
});
