/** Keys on a token: made, found, refused, chosen, and never made where one was. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ownCall } from '../../src/call/index.ts';
import { until } from '../api/support/fixture.ts';
import { assertFails, Bench, failure } from '../token/support/installation.ts';

let bench: Bench;
let labels = 0;

before(async () => {
  bench = await Bench.make({
    active: {},
    old: {},
    extractable: { attributes: { CKA_EXTRACTABLE: true } },
    bare: { attributes: { CKA_SENSITIVE: false, CKA_EXTRACTABLE: true } },
    small: { size: 128 },
    'decrypt-only': { attributes: { CKA_ENCRYPT: false }, id: Buffer.from('0123456789abcdef') },
    'encrypt-only': { attributes: { CKA_DECRYPT: false } },
    secret: { generic: true },
    constructor: {},
  });
});
afterEach(() => bench.reset());
after(() => bench.cleanup());

/** A label that no test used before. */
const fresh = (): string => `made-${++labels}`;

describe('creating', () => {
  test('makes a key that stays inside, and finds it again', async () => {
    const host = await bench.readyHost({ keys: [{ label: 'active' }] });
    const label = fresh();
    const made = await host.keyring.createKey(label, ownCall(5_000));
    assert.equal(made.sizeBits, 256);
    assert.equal(made.idKind, 'check-value');
    assert.deepEqual(made.problems, []);
    const { attributes } = made;
    for (const yes of ['sensitive', 'always_sensitive', 'never_extractable', 'local', 'encrypt', 'decrypt']) {
      assert.equal(attributes[yes], true, yes);
    }
    for (const no of ['extractable', 'wrap', 'unwrap', 'modifiable']) assert.equal(attributes[no], false, no);
    assert.match(String(attributes['cka_id']), /^[0-9a-f]{32}$/);
    const [seen] = (await host.keyring.inspect(label, ownCall(5_000))).found;
    assert.deepEqual(seen?.keyIds, made.keyIds);
  });

  test('by itself, where create is true and there is none: the first call waits for it', async () => {
    const label = fresh();
    const host = bench.host({ keys: [{ label, create: true }] });
    const ciphertext = await host.encrypt(Buffer.from('first'));
    assert.deepEqual(await host.decrypt(ciphertext), Buffer.from('first'));
    assert.equal(host.said('info').filter((line) => line === 'key created').length, 1);
    assert.ok(host.keyring.warnings().some((warning) => warning.includes('create: true')));
  });

  test('no second one when asked again while the HSM still makes the first', async () => {
    const host = await bench.readyHost();
    const label = fresh();
    const before = bench.faulty.counts().calls.C_GenerateKey;
    bench.faulty.control({ rules: [{ on: 'C_GenerateKey', delayUs: 2_000_000, times: 1 }] });
    await assertFails(host.keyring.createKey(label, ownCall(500)), 'deadline');
    await host.keyring.createKey(label, ownCall(10_000));
    assert.equal(bench.faulty.counts().calls.C_GenerateKey, before + 1);
    assert.equal((await host.keyring.inspect(label, ownCall(5_000))).found.length, 1);
  });

  test('both keys of scheme 3', async () => {
    bench.faulty.control({ hide: ['CKM_AES_GCM'] });
    const label = fresh();
    const host = bench.host({ keys: [{ label, create: true }] });
    const ciphertext = await host.encrypt(Buffer.from('first'));
    assert.equal(ciphertext[9], 3);
    assert.deepEqual(await host.decrypt(ciphertext), Buffer.from('first'));
  });

  test('is refused where there is one, also by create: true', async () => {
    const host = await bench.readyHost({ keys: [{ label: 'active', create: true }] });
    await assertFails(host.keyring.createKey('active', ownCall(5_000)), 'key-create-refused');
    assert.equal((await host.keyring.inspect('active', ownCall(5_000))).found.length, 1);
  });

  test('is refused where state_dir remembers one', async () => {
    const label = fresh();
    const stateDir = bench.newStateDir();
    const first = await bench.readyHost({ keys: [{ label, create: true }], stateDir });
    await first.encrypt(Buffer.alloc(1));
    await first.close();
    await bench.hsm.destroyKey(label);
    const generated = (): number => bench.faulty.counts().calls.C_GenerateKey;
    const before = generated();
    const host = await bench.readyHost({ keys: [{ label, create: true }], stateDir });
    const error = await assertFails(host.encrypt(Buffer.alloc(1)), 'key-missing');
    assert.equal(error.status, 'FAILED_PRECONDITION');
    const refused = await assertFails(host.keyring.createKey(label, ownCall(5_000)), 'key-create-refused');
    assert.match(refused.message, /was in use before.*restore/);
    assert.equal(generated(), before);
  });

  test('is refused where key_id is set', async () => {
    const label = fresh();
    const host = await bench.readyHost({ keys: [{ label, create: true, keyId: 'ab'.repeat(16) }] });
    await assertFails(host.keyring.createKey(label, ownCall(5_000)), 'key-create-refused');
    await assertFails(host.encrypt(Buffer.alloc(1)), 'key-missing');
  });

  test('that the token refuses says so, and is no outage', async () => {
    bench.faulty.control({ rules: [{ on: 'C_GenerateKey', answer: 'CKR_MECHANISM_INVALID' }] });
    const host = await bench.readyHost();
    const error = await assertFails(host.keyring.createKey(fresh(), ownCall(5_000)), 'key-create-refused');
    assert.match(error.message, /CKR_MECHANISM_INVALID.*HSM's own tool/);
    assert.equal(host.token.condition().state, 'ready');
  });

  test('a template that the token does not take whole is made without what it may lack', async () => {
    bench.faulty.control({ rules: [{ on: 'C_GenerateKey', answer: 'CKR_ATTRIBUTE_TYPE_INVALID', times: 2 }] });
    const host = await bench.readyHost();
    const made = await host.keyring.createKey(fresh(), ownCall(5_000));
    assert.deepEqual(made.problems, []);
    assert.equal(made.attributes['sensitive'], true);
    assert.equal(made.attributes['extractable'], false);
  });

  for (const [name, disturb] of [
    ['the token process dies behind it', { on: 'C_GenerateKey', crash: 'segv', after: true, times: 1 }],
    ['the device fails behind it', { on: 'C_GenerateKey', answer: 'CKR_DEVICE_ERROR', after: true, times: 1 }],
    ['the device fails before it', { on: 'C_GenerateKey', answer: 'CKR_DEVICE_ERROR', times: 1 }],
  ] as const) {
    test(`makes one key, though ${name}`, async () => {
      const label = fresh();
      bench.faulty.control({ rules: [disturb] });
      const host = bench.host({ keys: [{ label, create: true }] });
      await host.encrypt(Buffer.alloc(1));
      assert.equal((await host.keyring.inspect(label, ownCall(5_000))).found.length, 1);
    });
  }

  test('two hosts at once end with one key, or with a clear error and both decrypting', async (t) => {
    let one = 0;
    let ambiguous = 0;
    for (let round = 0; round < 6; round++) {
      const label = fresh();
      const hosts = [1, 2].map(() => bench.host({ keys: [{ label, create: true }] }));
      const results = await Promise.allSettled(hosts.map((host) => host.encrypt(Buffer.from('mine'))));
      const ciphertexts = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
      for (const result of results) {
        if (result.status === 'rejected') assert.equal((result.reason as { kind?: string }).kind, 'key-ambiguous');
      }
      const [first] = hosts;
      assert.ok(first);
      const { found } = await first.keyring.inspect(label, ownCall(5_000));
      if (found.length === 1) one++;
      else ambiguous++;
      assert.ok(found.length === 1 || found.length === 2);
      if (found.length === 2) {
        // The one that was first learns of the other, too.
        await sleep(2_500);
        for (const host of hosts) {
          const error = await assertFails(host.encrypt(Buffer.alloc(1)), 'key-ambiguous');
          assert.match(error.message, /set key_id/);
        }
      }
      for (const host of hosts) {
        for (const ciphertext of ciphertexts) assert.equal((await host.decrypt(ciphertext)).toString(), 'mine');
      }
      await bench.reset();
    }
    t.diagnostic(`6 rounds: one key ${one} times, two keys ${ambiguous} times`);
  });
});

describe('keys that must not be used', () => {
  const refused: readonly (readonly [string, RegExp])[] = [
    ['extractable', /CKA_EXTRACTABLE is true.*allow_unsafe/],
    ['bare', /CKA_SENSITIVE is false.*CKA_EXTRACTABLE is true/],
    ['small', /128 bits where `size` says 256/],
    ['encrypt-only', /CKA_DECRYPT is false/],
    ['decrypt-only', /CKA_ENCRYPT is false/],
    ['secret', /no key labelled|no AES key/],
  ];
  for (const [label, why] of refused) {
    test(`${label}: refused with its trouble`, async () => {
      const host = await bench.readyHost({ keys: [{ label }] });
      const error = await failure(host.encrypt(Buffer.alloc(1)));
      assert.equal(error.status, 'FAILED_PRECONDITION');
      assert.match(error.message, why);
      assert.match(host.keyring.health().reason, why);
      assert.ok(host.said('error').some((line) => why.test(line)));
    });
  }

  for (const label of ['extractable', 'bare', 'small']) {
    test(`${label}: allowed with a warning`, async () => {
      const host = await bench.readyHost({ keys: [{ label, allowUnsafe: true }] });
      assert.deepEqual(await host.decrypt(await host.encrypt(Buffer.from('x'))), Buffer.from('x'));
      assert.ok(host.said('warn').some((line) => line.includes('unsafe')));
      assert.ok(host.keyring.warnings().some((warning) => warning.includes(label)));
    });
  }

  test('a key that cannot encrypt decrypts under its CKA_ID, and a forged value is not proven', async () => {
    const host = await bench.readyHost({ keys: [{ label: 'active' }, { label: 'decrypt-only' }] });
    const [, report] = host.keyring.keys();
    assert.equal(report?.found[0]?.idKind, 'cka-id');
    const ciphertext = await host.encrypt(Buffer.from('x'));
    Buffer.from(report.found[0].keyIds[0] ?? '', 'hex').copy(ciphertext, 10);
    const error = await assertFails(host.decrypt(ciphertext), 'unproven');
    assert.equal(error.status, 'FAILED_PRECONDITION');
    assert.equal(host.token.condition().state, 'ready');
  });
});

describe('which key', () => {
  test('every listed key decrypts, the active one encrypts; use is counted', async () => {
    const before = await bench.readyHost({ keys: [{ label: 'old' }] });
    const ciphertext = await before.encrypt(Buffer.from('of old'));
    await before.close();
    const host = await bench.readyHost({ keys: [{ label: 'active' }, { label: 'old' }] });
    assert.deepEqual(await host.decrypt(ciphertext), Buffer.from('of old'));
    await host.encrypt(Buffer.alloc(1));
    const [active, old] = host.keyring.keys();
    assert.deepEqual([active?.found[0]?.encrypts, active?.found[0]?.decrypts], [1, 0]);
    assert.deepEqual([old?.found[0]?.encrypts, old?.found[0]?.decrypts], [0, 1]);
  });

  test('one that is not listed is FAILED_PRECONDITION, one that is retired INVALID_ARGUMENT, listed wins', async () => {
    const before = await bench.readyHost({ keys: [{ label: 'old' }] });
    const ciphertext = await before.encrypt(Buffer.from('of old'));
    const id = ciphertext.toString('hex', 10, 26);
    await before.close();
    const unlisted = await bench.readyHost();
    const error = await assertFails(unlisted.decrypt(ciphertext), 'key-not-listed');
    assert.equal(error.status, 'FAILED_PRECONDITION');
    const retired = await bench.readyHost({ retired: [id] });
    assert.equal((await assertFails(retired.decrypt(ciphertext), 'key-retired')).status, 'INVALID_ARGUMENT');
    const both = await bench.readyHost({ keys: [{ label: 'active' }, { label: 'old' }], retired: [id] });
    assert.deepEqual(await both.decrypt(ciphertext), Buffer.from('of old'));
    assert.ok(both.said('error').some((line) => line.includes('both listed and in retired_keys')));
  });

  test('one that is listed and retired, and gone from the token, is missing and not retired', async () => {
    const label = fresh();
    await bench.hsm.makeKey(label);
    const before = await bench.readyHost({ keys: [{ label }] });
    const ciphertext = await before.encrypt(Buffer.from('before'));
    await before.close();
    await bench.hsm.destroyKey(label);
    const wishes = { retired: [ciphertext.toString('hex', 10, 26)], stateDir: before.stateDir };
    const host = await bench.readyHost({ keys: [{ label: 'active' }, { label }], ...wishes });
    await host.encrypt(Buffer.alloc(1));
    await assertFails(host.decrypt(ciphertext), 'key-missing');
    await bench.hsm.makeKey(label);
    const remade = await bench.readyHost({ keys: [{ label: 'active' }, { label }], ...wishes });
    await remade.encrypt(Buffer.alloc(1));
    // What was once seen under a listed label stays listed.
    const gone = await assertFails(remade.decrypt(ciphertext), 'key-missing');
    assert.equal(gone.status, 'FAILED_PRECONDITION');
  });

  test('an active key that was deleted is gone after one known-answer call, until a search finds it', async () => {
    const label = fresh();
    await bench.hsm.makeKey(label);
    const host = await bench.readyHost({ keys: [{ label }] });
    await host.encrypt(Buffer.alloc(1));
    const { activeKeyId } = host.keyring.health();
    const away = async (): Promise<void> => {
      bench.faulty.control({ removed: {} });
      await assert.rejects(host.token.probe(ownCall(5_000)));
      await until(() => host.keyring.health().availability === 'away');
    };
    await away();
    assert.deepEqual([host.keyring.health().activeKeyId, host.keyring.health().activeKeyGone], [activeKeyId, false]);
    bench.faulty.control({});
    await host.ready();

    await bench.hsm.destroyKey(label);
    // It looks for its keys where the known answer fails for want of one.
    await host.token.probe(ownCall(5_000)).catch(() => undefined);
    await until(() => host.keyring.health().activeKeyGone);
    assert.equal(host.keyring.health().ok, false);
    await away();
    assert.equal(host.keyring.health().activeKeyGone, true, 'nor does the end of the token bring it back');
    bench.faulty.control({});
    await bench.hsm.makeKey(label);
    await until(() => !host.keyring.health().activeKeyGone);
    // The label has a key again, and it is another one.
    await assertFails(host.encrypt(Buffer.alloc(1)), 'key-replaced');
  });

  test('of two under one label none encrypts, both decrypt; key_id chooses', async () => {
    const label = fresh();
    await bench.hsm.makeKey(label);
    const alone = await bench.readyHost({ keys: [{ label }] });
    const first = await alone.encrypt(Buffer.from('first'));
    await alone.close();
    await bench.hsm.makeKey(label);
    const host = await bench.readyHost({ keys: [{ label }] });
    const error = await assertFails(host.encrypt(Buffer.alloc(1)), 'key-ambiguous');
    assert.equal(error.status, 'FAILED_PRECONDITION');
    assert.match(error.message, /2 keys are labelled.*set key_id/);
    assert.deepEqual(await host.decrypt(first), Buffer.from('first'));
    const ids = host.keyring.keys()[0]?.found.map(({ keyIds }) => keyIds[0] ?? '') ?? [];
    assert.equal(ids.length, 2);
    for (const keyId of ids) {
      const chosen = await bench.readyHost({ keys: [{ label, keyId }] });
      const ciphertext = await chosen.encrypt(Buffer.from('chosen'));
      assert.equal(ciphertext.toString('hex', 10, 26), keyId);
      assert.deepEqual(await host.decrypt(ciphertext), Buffer.from('chosen'));
    }
  });

  test('one key that is there twice is one key', async () => {
    const label = fresh();
    const value = Buffer.alloc(32, 0x5c);
    await bench.hsm.makeKey(label, { value });
    await bench.hsm.makeKey(label, { value });
    const host = await bench.readyHost({ keys: [{ label }] });
    assert.deepEqual(await host.decrypt(await host.encrypt(Buffer.from('x'))), Buffer.from('x'));
  });

  test('of two with one CKA_ID, where their bytes give no id, none encrypts', async () => {
    const label = fresh();
    const id = Buffer.from('fedcba9876543210');
    await bench.hsm.makeKey(label, { id });
    await bench.hsm.makeKey(label, { id });
    bench.faulty.control({ hide: ['CKM_AES_ECB', 'CKM_AES_CBC'] });
    const host = await bench.readyHost({ keys: [{ label }] });
    await assertFails(host.encrypt(Buffer.alloc(1)), 'key-ambiguous');
  });

  test('its id is the same on another token', async () => {
    const value = Buffer.alloc(32, 0x5d);
    const label = fresh();
    await bench.hsm.makeKey(label, { value });
    const other = await Bench.make({ elsewhere: { value } });
    try {
      const here = await bench.readyHost({ keys: [{ label }] });
      const there = await other.readyHost({ keys: [{ label: 'elsewhere' }] });
      assert.deepEqual(await there.decrypt(await here.encrypt(Buffer.from('x'))), Buffer.from('x'));
    } finally {
      await other.cleanup();
    }
  });

  test('a missing one is found soon after another host made it, and a call may wait for it', async (t) => {
    const label = fresh();
    const host = await bench.readyHost({ keys: [{ label }] });
    await assertFails(host.encrypt(Buffer.alloc(1)), 'key-missing');
    await bench.hsm.makeKey(label);
    const started = performance.now();
    await host.encrypt(Buffer.alloc(1));
    const took = performance.now() - started;
    t.diagnostic(`found after ${Math.round(took)} ms`);
    assert.ok(took < 3_000);
    assert.equal(host.keyring.health().ok, true);
  });

  test('however many calls miss a key, the token is searched once a second', async () => {
    const host = await bench.readyHost({ keys: [{ label: fresh() }] });
    const searches = (): number => bench.faulty.counts().calls.C_FindObjectsInit;
    const before = searches();
    const until = performance.now() + 3_000;
    await Promise.all(
      Array.from({ length: 20 }, async () => {
        while (performance.now() < until) await assertFails(host.encrypt(Buffer.alloc(1)), 'key-missing');
      }),
    );
    const made = searches() - before;
    assert.ok(made >= 2 && made <= 6, `${made} searches`);
  });

  test('a label may be a word that means something to JavaScript', async () => {
    const host = await bench.readyHost({ keys: [{ label: 'constructor' }] });
    assert.deepEqual(await host.decrypt(await host.encrypt(Buffer.from('x'))), Buffer.from('x'));
  });

  test('one that the token process holds no more is searched for before a call fails', async () => {
    const host = await bench.readyHost();
    const ciphertext = await host.encrypt(Buffer.from('before'));
    const others = [
      { label: 'old', macLabel: undefined, sizeBits: 256 as const, active: false, remembered: [], given: [] },
    ];
    await host.token.find(others, ownCall(5_000));
    assert.deepEqual(await host.decrypt(ciphertext), Buffer.from('before'));
    await host.token.find(others, ownCall(5_000));
    assert.deepEqual(await host.decrypt(await host.encrypt(Buffer.from('after'))), Buffer.from('after'));
  });

  test('a search that ends late does not undo a later one', async () => {
    const host = await bench.readyHost();
    bench.faulty.control({ rules: [{ on: 'C_Encrypt', delayUs: 500_000, times: 1 }] });
    const query = { macLabel: undefined, sizeBits: 256 as const, active: false, remembered: [], given: [] };
    const early = host.token.find([{ ...query, label: 'old' }], ownCall(5_000));
    await sleep(100);
    await host.token.find([{ ...query, label: 'active' }], ownCall(5_000));
    await early;
    assert.deepEqual(
      host.token.keys().map(({ label }) => label),
      ['active'],
    );
  });

  test('a new active key is searched for when a reload comes during a search', async () => {
    const host = await bench.readyHost({ keys: [{ label: 'active' }] });
    const missing = bench.config({ keys: [{ label: fresh() }] }, host.stateDir);
    const there = bench.config({ keys: [{ label: 'old' }] }, host.stateDir);
    host.keyring.reload(missing);
    await assertFails(host.encrypt(Buffer.alloc(1)), 'key-missing');
    bench.faulty.control({ rules: [{ on: 'C_FindObjectsInit', delayUs: 300_000 }] });
    const encrypted = host.encrypt(Buffer.from('under old'));
    await sleep(1_100);
    host.keyring.reload(there);
    assert.deepEqual(await host.decrypt(await encrypted), Buffer.from('under old'));
  });

  test('a reload takes other keys without dropping a call', async () => {
    const host = await bench.readyHost({ keys: [{ label: 'active' }] });
    const first = await host.encrypt(Buffer.from('before'));
    const config = bench.config({ keys: [{ label: 'old' }, { label: 'active' }] }, host.stateDir);
    const errors: unknown[] = [];
    let running = true;
    const callers = Array.from({ length: 8 }, async () => {
      while (running) {
        await host.encrypt(Buffer.alloc(8)).then(
          (made) => host.decrypt(made),
          (error: unknown) => errors.push(error),
        );
        await sleep(2);
      }
    });
    await sleep(100);
    host.keyring.reload(config);
    await sleep(600);
    running = false;
    await Promise.all(callers);
    assert.deepEqual(errors, []);
    const second = await host.encrypt(Buffer.from('after'));
    assert.notDeepEqual(first.subarray(10, 26), second.subarray(10, 26));
    assert.deepEqual(await host.decrypt(first), Buffer.from('before'));
    assert.deepEqual(host.said('error'), []);
  });
});

describe('what state_dir remembers', () => {
  const memory = (stateDir: string): string => path.join(stateDir, 'key-ids.json');

  test('names the active key before the token was reached', async () => {
    const first = await bench.readyHost();
    const ciphertext = await first.encrypt(Buffer.alloc(1));
    await first.close();
    bench.faulty.control({ removed: {} });
    const host = bench.host({ stateDir: first.stateDir });
    assert.equal(host.keyring.health().activeKeyId, ciphertext.toString('hex', 10, 26));
  });

  for (const [name, contents] of [
    ['no JSON', '{"version":1,'],
    ['another shape', '{"version":1}'],
    ['null', 'null'],
    ['an entry of another shape', '{"version":1,"labels":{"active":{"ids":"x","firstSeen":"y"}}}'],
  ] as const) {
    test(`damaged (${name}): it serves, and creates nothing`, async () => {
      const stateDir = bench.newStateDir();
      writeFileSync(memory(stateDir), contents);
      const label = fresh();
      const host = await bench.readyHost({ keys: [{ label: 'active' }, { label, create: true }], stateDir });
      await host.encrypt(Buffer.alloc(1));
      const error = await assertFails(host.keyring.createKey(label, ownCall(5_000)), 'key-create-refused');
      assert.match(error.message, /damaged/);
      assert.equal(readFileSync(memory(stateDir), 'utf8'), contents);
      assert.ok(host.said('error').some((line) => line.includes('memory of key ids')));
    });
  }

  test('cannot be written: it serves and says so', async () => {
    const stateDir = bench.newStateDir();
    // A directory in the file's place is a disk that cannot be written, for root as well.
    mkdirSync(`${memory(stateDir)}.${process.pid}.tmp`);
    const host = await bench.readyHost({ stateDir });
    assert.deepEqual(await host.decrypt(await host.encrypt(Buffer.from('x'))), Buffer.from('x'));
    assert.ok(host.said('error').some((line) => line.includes('cannot be remembered')));
    rmSync(`${memory(stateDir)}.${process.pid}.tmp`, { recursive: true, force: true });
    chmodSync(stateDir, 0o700);
  });
});
