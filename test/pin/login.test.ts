import assert from 'node:assert/strict';
import fs from 'node:fs';
import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { attemptLogin, clearPins, describePins } from '../../src/token/pin/index.ts';
import { PinMemory } from '../../src/token/pin/memory.ts';
import { tokenOf } from './login-process.ts';
import { expectKind, Place } from './place.ts';

const MINUTE = 60_000;
let place: Place;

beforeEach(() => {
  place = new Place();
});
afterEach(() => place.remove());

const REFUSALS = ['CKR_PIN_INCORRECT', 'CKR_PIN_LOCKED', 'CKR_PIN_EXPIRED', 'CKR_PIN_INVALID', 'CKR_PIN_LEN_RANGE'];

describe('a refused PIN', () => {
  for (const ckr of REFUSALS) {
    it(`is never tried again after ${ckr}`, async () => {
      const first = expectKind(await place.login('wrong', { answer: ckr }), 'refused');
      assert.equal(first.ckr, ckr);
      assert.equal(first.remembered, true);
      const second = expectKind(await place.login('wrong', { ahead: 365 * 24 * 60 * MINUTE }), 'refused');
      assert.equal(second.ckr, ckr);
      assert.equal(second.reason, first.reason);
      assert.deepEqual(place.calls(), ['wrong']);
    });
  }

  for (const name of ['manufacturer', 'model', 'serial', 'label'] as const) {
    it(`is refused under its own token only, which differs by its ${name}`, async () => {
      const token = { [name]: 'another' };
      await place.login('wrong', { answer: 'CKR_PIN_INCORRECT' });
      expectKind(await place.login('wrong', { token }), 'logged-in');
      expectKind(await place.login('other', { token }), 'logged-in');
      expectKind(await place.login('wrong', { token, flags: { countLow: true } }), 'later');
      expectKind(await place.run({ pin: 'wrong' }), 'refused');
      assert.equal(place.calls().length, 3);
    });
  }

  it('is refused on every token of that serial number, where an earlier release remembered it', async () => {
    await place.login('wrong', { answer: 'CKR_PIN_INCORRECT' });
    const memory = PinMemory.read(place.stateDir);
    const [entry] = memory?.entries ?? [];
    assert.ok(memory !== undefined && entry !== undefined);
    await clearPins(place.stateDir);
    PinMemory.open(place.stateDir).put({ ...entry, token: '', label: '' });
    expectKind(await place.login('wrong'), 'refused');
    expectKind(await place.login('wrong', { token: { label: 'another' } }), 'refused');
    expectKind(await place.login('wrong', { token: { serial: 'another' } }), 'logged-in');
  });

  it('troubles nobody once another PIN has logged in to the same token', async () => {
    const settled = (): readonly boolean[] => describePins(place.stateDir).map((pin) => pin.settled);
    await place.login('wrong', { answer: 'CKR_PIN_INCORRECT' });
    await place.login('right', { token: { label: 'another' }, ahead: 1 });
    assert.deepEqual(settled(), [false, false]);
    await place.login('right', { ahead: 2 });
    assert.deepEqual(settled(), [true, false, false]);
    expectKind(await place.login('wrong'), 'refused');
  });

  it('does not keep another PIN from being tried', async () => {
    await place.login('wrong', { answer: 'CKR_PIN_INCORRECT' });
    expectKind(await place.login('right'), 'logged-in');
    assert.deepEqual(place.calls(), ['wrong', 'right']);
  });

  it('stays refused though it was good before', async () => {
    await place.login('changed');
    await place.login('changed', { answer: 'CKR_PIN_INCORRECT' });
    expectKind(await place.login('changed'), 'refused');
    assert.equal(place.calls().length, 2);
  });

  it('is told to the operator with token, code and mend, and never shown', async () => {
    const { reason } = expectKind(await place.login('secret-7391', { answer: 'CKR_PIN_INCORRECT' }), 'refused');
    assert.match(reason, /0123456789abcdef.*CKR_PIN_INCORRECT.*pin_file.*kms-plugin pin clear/s);
    assert.doesNotMatch(reason, /7391/);
  });
});

describe('a PIN that works', () => {
  it('is tried at once every time', async () => {
    for (let i = 0; i < 4; i++) expectKind(await place.login('right'), 'logged-in');
    assert.equal(place.calls().length, 4);
  });

  it('reaches C_Login as its bytes are', async () => {
    const pin = '\uFEFFpässword \u{1F511}';
    await place.login(pin);
    assert.deepEqual(place.calls(), [pin]);
  });

  it('counts as logged in when the process was already; that proves nothing about the PIN', async () => {
    expectKind(await place.login('some', { answer: 'CKR_USER_ALREADY_LOGGED_IN' }), 'logged-in');
    assert.equal(describePins(place.stateDir)[0]?.state, 'tried');
    expectKind(await place.login('some', { flags: { countLow: true } }), 'later');
  });
});

describe('any other answer', () => {
  it('closes the intent: the next attempt is free and at once', async () => {
    for (let i = 0; i < 5; i++) {
      const outcome = await place.login('new', { answer: 'CKR_DEVICE_ERROR' });
      assert.deepEqual(outcome, { kind: 'failed', ckr: 'CKR_DEVICE_ERROR' });
    }
    expectKind(await place.login('new'), 'logged-in');
    assert.equal(place.calls().length, 6);
  });

  it('of the flags fails the attempt without a login', async () => {
    const outcome = await attemptLogin({
      stateDir: place.stateDir,
      token: tokenOf({ serial: 's' }),
      pin: Buffer.from('x'),
      flags: () => {
        throw Object.assign(new Error('x'), { ckr: 'CKR_DEVICE_REMOVED' });
      },
      login: () => assert.fail('C_Login called'),
      lockWaitMs: 1000,
    });
    assert.deepEqual(outcome, { kind: 'failed', ckr: 'CKR_DEVICE_REMOVED' });
    assert.deepEqual(describePins(place.stateDir), []);
  });

  it('without a CKR_ name leaves the intent open, since nobody knows what the token did', async () => {
    const broken = (): Promise<unknown> =>
      attemptLogin({
        stateDir: place.stateDir,
        token: tokenOf(),
        pin: Buffer.from('x'),
        flags: () => ({ countLow: false, finalTry: false, locked: false, initialized: true, protectedPath: false }),
        login: () => {
          throw new TypeError('broken binding');
        },
        lockWaitMs: 1000,
        now: () => Date.parse('2026-01-01T00:00:00Z'),
      });
    await assert.rejects(broken(), /broken binding/);
    assert.equal(describePins(place.stateDir)[0]?.state, 'cut-off');
    expectKind(await place.login('x'), 'later');
  });
});

describe('a token without a user PIN', () => {
  const ckr = 'CKR_USER_PIN_NOT_INITIALIZED';

  it('is asked again once it shows one', async () => {
    expectKind(await place.login('pin', { answer: ckr, flags: { initialized: false } }), 'not-initialized');
    expectKind(await place.login('pin', { flags: { initialized: false } }), 'not-initialized');
    assert.equal(place.calls().length, 1);
    expectKind(await place.login('pin', { flags: { initialized: true } }), 'logged-in');
    assert.equal(place.calls().length, 2);
  });

  it('is asked again only once', async () => {
    await place.login('pin', { answer: ckr, flags: { initialized: false } });
    expectKind(await place.login('pin', { answer: ckr }), 'not-initialized');
    const third = expectKind(await place.login('pin'), 'not-initialized');
    assert.match(third.reason, /kms-plugin pin clear/);
    assert.equal(place.calls().length, 2);
  });

  it('may refuse that one try, which is then the last', async () => {
    await place.login('pin', { answer: ckr, flags: { initialized: false } });
    expectKind(await place.login('pin', { answer: 'CKR_PIN_INCORRECT' }), 'refused');
    expectKind(await place.login('pin'), 'refused');
    assert.equal(place.calls().length, 2);
  });

  it('keeps its one try when a fault of the device came between', async () => {
    await place.login('pin', { answer: ckr, flags: { initialized: false } });
    expectKind(await place.login('pin', { answer: 'CKR_DEVICE_ERROR' }), 'failed');
    expectKind(await place.login('pin'), 'logged-in');
  });
});

describe('the token warns', () => {
  const countLow = { countLow: true };

  it('COUNT_LOW: a PIN never tried may be', async () => {
    expectKind(await place.login('new', { flags: countLow }), 'logged-in');
  });

  it('COUNT_LOW: the PIN last known good may be', async () => {
    await place.login('right');
    expectKind(await place.login('right', { flags: countLow }), 'logged-in');
  });

  it('COUNT_LOW: a PIN tried before may not, until the flag is gone', async () => {
    await place.login('tried', { answer: 'CKR_DEVICE_ERROR' });
    const later = expectKind(await place.login('tried', { flags: countLow }), 'later');
    assert.ok(later.retryAfterMs > 0 && later.retryAfterMs <= 5 * MINUTE);
    assert.equal(place.calls().length, 1);
    expectKind(await place.login('tried'), 'logged-in');
  });

  it('COUNT_LOW: a PIN that was good before another one became so may not', async () => {
    await place.login('old');
    await place.login('new');
    expectKind(await place.login('old', { flags: countLow }), 'later');
    expectKind(await place.login('new', { flags: countLow }), 'logged-in');
  });

  it('COUNT_LOW: each token has its own good PIN', async () => {
    await place.login('one');
    await place.login('two', { serial: 'other' });
    expectKind(await place.login('one', { flags: countLow }), 'logged-in');
    expectKind(await place.login('two', { flags: countLow, serial: 'other' }), 'logged-in');
  });

  it('protected authentication path: no PIN is tried, not even the good one, and the setting is named', async () => {
    await place.login('right');
    const later = expectKind(await place.login('right', { flags: { protectedPath: true } }), 'later');
    assert.match(later.reason, /CKF_PROTECTED_AUTHENTICATION_PATH.*token\.pin_despite_flag/);
    assert.equal(place.calls().length, 1);
  });

  for (const flag of ['finalTry', 'locked'] as const) {
    it(`${flag}: no PIN is tried, not even the good one; it may be again when the flag is gone`, async () => {
      await place.login('right');
      const later = expectKind(await place.login('right', { flags: { [flag]: true } }), 'later');
      assert.ok(later.retryAfterMs > 0 && later.retryAfterMs <= 5 * MINUTE);
      expectKind(await place.login('new', { flags: { [flag]: true } }), 'later');
      assert.equal(place.calls().length, 1);
      expectKind(await place.login('right'), 'logged-in');
    });
  }
});

describe('the memory on disk', () => {
  it('is 64 KiB of allocated bytes, for its owner alone, and stays the same file', async () => {
    await place.login('right');
    const before = statSync(place.memory);
    assert.equal(before.size, 65_536);
    assert.ok(before.blocks * 512 >= 65_536);
    assert.equal(before.mode & 0o777, 0o600);
    await place.login('wrong', { answer: 'CKR_PIN_INCORRECT' });
    assert.equal(statSync(place.memory).ino, before.ino);
    assert.deepEqual(readdirSync(place.stateDir).sort(), ['login.lock', 'pin-memory']);
  });

  it('holds neither the PIN nor a hash that two files or two tokens share', async () => {
    await place.login('secret-7391');
    await place.login('secret-7391', { serial: 'other' });
    const bytes = readFileSync(place.memory);
    for (const encoding of ['utf8', 'hex', 'base64', 'utf16le'] as const) {
      const shown = Buffer.from('secret-7391', encoding === 'utf16le' ? 'utf16le' : 'utf8').toString(
        encoding === 'utf16le' ? 'latin1' : encoding,
      );
      assert.ok(!bytes.includes(shown, 0, 'latin1'), encoding);
    }
    const hashes = (): string[] => bytes.toString('latin1').match(/"hash":"[0-9a-f]{64}"/g) ?? [];
    const first = new Set(hashes());
    assert.equal(first.size, 2);
    rmSync(place.memory);
    await place.login('secret-7391');
    const again = /"hash":"[0-9a-f]{64}"/.exec(readFileSync(place.memory, 'latin1'))?.[0];
    assert.ok(again !== undefined && !first.has(again));
  });

  it('has the intent synced before C_Login, and the answer before the outcome', async () => {
    await place.login('other');
    const events: string[] = [];
    const sync = fs.fdatasyncSync;
    const write = fs.writeSync;
    mock.method(fs, 'fdatasyncSync', (descriptor: number) => {
      events.push('sync');
      sync(descriptor);
    });
    mock.method(fs, 'writeSync', (...args: Parameters<typeof write>) => {
      events.push('write');
      return write(...args);
    });
    syncBuiltinESMExports();
    try {
      await attemptLogin({
        stateDir: place.stateDir,
        token: tokenOf(),
        pin: Buffer.from('right'),
        flags: () => ({ countLow: false, finalTry: false, locked: false, initialized: true, protectedPath: false }),
        login: () => {
          events.push('login');
          assert.equal(describePins(place.stateDir).at(-1)?.state, 'cut-off');
        },
        lockWaitMs: 1000,
      });
    } finally {
      mock.restoreAll();
      syncBuiltinESMExports();
    }
    const twice = ['write', 'sync', 'write', 'sync'];
    assert.deepEqual(events, [...twice, 'login', ...twice]);
  });

  it('that cannot be written after C_Login is told: the refusal is not remembered, the login is good', async () => {
    const failing = (answer: string | undefined): ReturnType<typeof attemptLogin> =>
      attemptLogin({
        stateDir: place.stateDir,
        token: tokenOf(),
        pin: Buffer.from(answer ?? 'right'),
        flags: () => ({ countLow: false, finalTry: false, locked: false, initialized: true, protectedPath: false }),
        login: () => {
          mock.method(fs, 'writeSync', () => {
            throw new Error('EIO: i/o error');
          });
          syncBuiltinESMExports();
          if (answer !== undefined) throw Object.assign(new Error(answer), { ckr: answer });
        },
        lockWaitMs: 1000,
      }).finally(() => {
        mock.restoreAll();
        syncBuiltinESMExports();
      });
    const refused = expectKind(await failing('CKR_PIN_INCORRECT'), 'refused');
    assert.equal(refused.remembered, false);
    assert.match(refused.reason, /could NOT be written/);
    const again = expectKind(await place.login('CKR_PIN_INCORRECT', { ahead: 60 * MINUTE }), 'refused');
    assert.equal(again.remembered, true, 'written as soon as the disk takes it');
    expectKind(await place.run({ pin: 'CKR_PIN_INCORRECT', ahead: 60 * MINUTE }), 'refused');
    assert.deepEqual(place.calls(), []);
    assert.match(expectKind(await failing(undefined), 'logged-in').warning ?? '', /EIO/);
  });

  it('is needed: without its directory there is no login', async () => {
    rmSync(place.stateDir, { recursive: true });
    const later = expectKind(await place.login('right'), 'later');
    assert.match(later.reason, /state_dir .*ENOENT/);
    assert.deepEqual(place.calls(), []);
  });

  it('takes only a PIN that is UTF-8', async () => {
    await assert.rejects(
      attemptLogin({
        stateDir: place.stateDir,
        token: tokenOf({ serial: 's' }),
        pin: Buffer.from([0xff]),
        flags: () => assert.fail('flags read'),
        login: () => assert.fail('C_Login called'),
        lockWaitMs: 0,
      }),
      /not UTF-8/,
    );
    assert.deepEqual(readdirSync(join(place.stateDir)), []);
  });
});
