import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import { existsSync, readFileSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { afterEach, beforeEach, describe, it, mock } from 'node:test';
import { clearPins, describePins, PinMemoryError } from '../../src/token/pin/index.ts';
import { freshEntry } from '../../src/token/pin/entry.ts';
import type { PinEntry } from '../../src/token/pin/entry.ts';
import { PinMemory } from '../../src/token/pin/memory.ts';
import { MOST_PAYLOAD, readSlots } from '../../src/token/pin/slots.ts';
import { tokenOf } from './login-process.ts';
import { expectKind, Place } from './place.ts';

const SLOT = 32_768;
const SECTOR = 512;
let place: Place;

beforeEach(() => {
  place = new Place();
});
afterEach(() => place.remove());

/** Turns over one byte in each of the file's ranges. */
function garble(...positions: readonly number[]): void {
  const bytes = readFileSync(place.memory);
  for (const position of positions) bytes.writeUInt8(bytes.readUInt8(position) ^ 0xff, position);
  writeFileSync(place.memory, bytes);
}

const hashOf = (number: number): string => number.toString(16).padStart(64, '0');

describe('a damaged memory', () => {
  for (const slot of [0, 1]) {
    // Magic, sequence, length, checksum, payload.
    for (const at of [0, 15, 19, 20, 60]) {
      it(`loses nothing by damage at byte ${at} of slot ${slot}, and is mended by the next write`, async () => {
        await place.login('wrong', { answer: 'CKR_PIN_INCORRECT' });
        garble(slot * SLOT + at);
        expectKind(await place.login('wrong'), 'refused');
        expectKind(await place.login('right'), 'logged-in');
        garble((1 - slot) * SLOT + at);
        expectKind(await place.login('wrong'), 'refused');
        assert.equal(describePins(place.stateDir).length, 2);
      });
    }
  }

  it('loses nothing when it is cut to its first slot', async () => {
    await place.login('wrong', { answer: 'CKR_PIN_INCORRECT' });
    truncateSync(place.memory, SLOT + 100);
    expectKind(await place.login('wrong'), 'refused');
    await place.login('right');
    assert.equal(statSync(place.memory).size, 2 * SLOT);
  });

  const ruins: readonly [string, () => void][] = [
    ['both slots garbled', () => garble(60, SLOT + 60)],
    ['emptied', () => truncateSync(place.memory, 0)],
    ['cut within the first slot', () => truncateSync(place.memory, 1000)],
    ['other bytes', () => writeFileSync(place.memory, randomBytes(2 * SLOT))],
  ];
  for (const [name, ruin] of ruins) {
    it(`with nothing left (${name}) tries no PIN, and says so, until pin clear`, async () => {
      await place.login('right');
      ruin();
      const bytes = readFileSync(place.memory);
      for (const pin of ['right', 'new']) {
        const refused = expectKind(await place.login(pin), 'refused');
        assert.equal(refused.ckr, undefined);
        assert.ok(refused.reason.includes(place.memory));
        assert.match(refused.reason, /damaged.*kms-plugin pin clear/);
      }
      assert.equal(place.calls().length, 1);
      assert.throws(() => describePins(place.stateDir), PinMemoryError);
      await assert.rejects(clearPins(place.stateDir, '0123456789abcdef'), PinMemoryError);
      assert.ok(bytes.equals(readFileSync(place.memory)), 'nothing is written until an operator says so');
      assert.equal(await clearPins(place.stateDir), 0);
      assert.equal(statSync(place.memory).size, 2 * SLOT);
      expectKind(await place.login('right'), 'logged-in');
    });
  }

  it('that is a symbolic link is not followed', async () => {
    symlinkSync('/dev/null', place.memory);
    expectKind(await place.login('right'), 'later');
    assert.deepEqual(place.calls(), []);
  });
});

describe('a torn write', () => {
  it('leaves the older or the newer state at every sector, in either slot', async () => {
    await place.login('first', { answer: 'CKR_PIN_INCORRECT' });
    const memory = PinMemory.read(place.stateDir);
    assert.ok(memory !== undefined);
    const old = readFileSync(place.memory);
    for (let i = 1; i <= 20; i++)
      memory.put({ ...freshEntry(tokenOf({ serial: 's' }), hashOf(i)), standing: 'refused', at: i });
    const young = readFileSync(place.memory);
    // The order of writing: second slot, first slot (the first was the newest); a disk may write sectors in any order.
    const states = (image: Buffer): unknown => {
      writeFileSync(place.memory, image);
      const found = readSlots(place.memory);
      assert.ok(typeof found === 'object', 'one slot is whole');
      return found.payload.toString();
    };
    const before = states(old);
    const after = states(young);
    assert.notEqual(before, after);
    for (let sector = 0; sector < SLOT / SECTOR; sector++) {
      for (const backwards of [false, true]) {
        const from = backwards ? sector * SECTOR : 0;
        const to = backwards ? SLOT : sector * SECTOR;
        const tearing = Buffer.from(old);
        young.copy(tearing, SLOT + from, SLOT + from, SLOT + to);
        const seen = states(tearing);
        assert.ok(seen === before || seen === after, `second slot, sector ${sector}`);
        const last = Buffer.concat([old.subarray(0, SLOT), young.subarray(SLOT)]);
        young.copy(last, from, from, to);
        assert.equal(states(last), after, `first slot, sector ${sector}`);
      }
    }
  });

  it('while the file is made leaves no file of that name', async () => {
    writeFileSync(`${place.memory}.new`, 'what a killed process left');
    expectKind(await place.login('right'), 'logged-in');
    assert.equal(existsSync(`${place.memory}.new`), false);
    assert.equal(statSync(place.memory).size, 2 * SLOT);
    assert.equal(statSync(place.memory).mode & 0o777, 0o600);
  });
});

describe('a full memory', () => {
  const fill = (make: (number: number) => Partial<PinEntry>): PinMemory => {
    const memory = PinMemory.open(place.stateDir);
    for (let i = 1; i <= 50; i++) memory.put({ ...freshEntry(tokenOf({ serial: 's' }), hashOf(i)), at: i, ...make(i) });
    return memory;
  };

  it('has room for 50 entries of the largest size', () => {
    const { label } = freshEntry(tokenOf({ label: '\u4e16\u0001'.repeat(40) }), hashOf(1));
    const serial = 'x'.repeat(126);
    fill(() => ({
      serial,
      label,
      standing: 'not-initialized',
      ckr: 'C'.repeat(100),
      at: Number.MAX_SAFE_INTEGER,
      open: Number.MAX_SAFE_INTEGER,
      lost: Number.MAX_SAFE_INTEGER,
      pauseMs: 300_000,
    }));
    const found = readSlots(place.memory);
    assert.ok(typeof found === 'object' && found.payload.length <= MOST_PAYLOAD);
    assert.equal(PinMemory.read(place.stateDir)?.entries.length, 50);
  });

  it('of refused PINs tries no other, says so, and forgets none', async () => {
    fill(() => ({ standing: 'refused', ckr: 'CKR_PIN_INCORRECT' }));
    const refused = expectKind(await place.login('new'), 'refused');
    assert.match(refused.reason, /no room.*kms-plugin pin clear/);
    assert.deepEqual(place.calls(), []);
    assert.equal(describePins(place.stateDir).filter((pin) => pin.state === 'refused').length, 50);
    assert.equal(await clearPins(place.stateDir), 50);
    expectKind(await place.login('new'), 'logged-in');
  });

  it('drops the oldest entry that forbids nothing, the good PIN last', async () => {
    fill((i) => ({ standing: i === 1 ? 'good' : i === 20 || i === 30 ? 'tried' : 'refused' }));
    const left = (): readonly number[] =>
      (PinMemory.read(place.stateDir)?.entries ?? []).map((entry) => entry.at).filter((at) => [1, 20, 30].includes(at));
    await place.login('a', { answer: 'CKR_PIN_INCORRECT' });
    assert.deepEqual(left(), [1, 30]);
    await place.login('b', { answer: 'CKR_PIN_INCORRECT' });
    assert.deepEqual(left(), [1]);
    await place.login('c', { answer: 'CKR_PIN_INCORRECT' });
    assert.deepEqual(left(), []);
    assert.match(expectKind(await place.login('d'), 'refused').reason, /no room/);
    assert.deepEqual(place.calls(), ['a', 'b', 'c']);
  });

  it('keeps PINs whose login was cut off, and those that wait for the token to have a PIN', async () => {
    fill((i) => (i % 2 === 0 ? { open: 1, lost: 1 } : { standing: 'not-initialized' }));
    assert.match(expectKind(await place.login('new'), 'refused').reason, /no room/);
  });
});

describe('describePins', () => {
  it('says nothing before the first login, and makes no file', () => {
    assert.deepEqual(describePins(place.stateDir), []);
    assert.equal(existsSync(place.memory), false);
  });

  it('reads again when a write came between', async () => {
    await place.login('a');
    const read = fs.readSync;
    let reads = 0;
    mock.method(fs, 'readSync', (...args: Parameters<typeof read>) => {
      const length = read(...args);
      if (++reads === 1) (args[1] as Buffer).fill(0);
      return length;
    });
    syncBuiltinESMExports();
    try {
      assert.equal(describePins(place.stateDir)[0]?.state, 'good');
      assert.ok(reads > 1);
    } finally {
      mock.restoreAll();
      syncBuiltinESMExports();
    }
  });

  it('shows each PIN by token, state, code and time, oldest first', async () => {
    await place.login('a', { answer: 'CKR_PIN_LOCKED', ahead: 3000 });
    await place.login('b', { ahead: 2000 });
    await place.login('c', { answer: 'CKR_USER_PIN_NOT_INITIALIZED', ahead: 1000, serial: 'other' });
    await place.login('d', { answer: 'CKR_DEVICE_ERROR' });
    const of = { serial: '0123456789abcdef', label: 'partition', cutOff: 0 };
    assert.deepEqual(describePins(place.stateDir), [
      { ...of, state: 'tried', ckr: 'CKR_DEVICE_ERROR', when: '2026-01-01T00:00:00.000Z', settled: true },
      {
        ...of,
        serial: 'other',
        state: 'not-initialized',
        ckr: 'CKR_USER_PIN_NOT_INITIALIZED',
        when: '2026-01-01T00:00:01.000Z',
        settled: false,
      },
      { ...of, state: 'good', ckr: undefined, when: '2026-01-01T00:00:02.000Z', settled: false },
      { ...of, state: 'refused', ckr: 'CKR_PIN_LOCKED', when: '2026-01-01T00:00:03.000Z', settled: false },
    ]);
  });
});

describe('clearPins', () => {
  it('forgets one token or all; what is forgotten may be tried again', async () => {
    await place.login('a', { answer: 'CKR_PIN_INCORRECT' });
    await place.login('b', { answer: 'CKR_PIN_INCORRECT' });
    await place.login('a', { answer: 'CKR_PIN_INCORRECT', serial: 'other' });
    assert.equal(await clearPins(place.stateDir, 'none'), 0);
    assert.equal(await clearPins(place.stateDir, '0123456789abcdef'), 2);
    expectKind(await place.login('a', { serial: 'other' }), 'refused');
    expectKind(await place.login('a'), 'logged-in');
    assert.equal(await clearPins(place.stateDir), 2);
    expectKind(await place.login('a', { serial: 'other' }), 'logged-in');
  });

  it('leaves no hash in the file', async () => {
    await place.login('a', { answer: 'CKR_PIN_INCORRECT' });
    assert.match(readFileSync(place.memory, 'latin1'), /"hash"/);
    await clearPins(place.stateDir);
    assert.doesNotMatch(readFileSync(place.memory, 'latin1'), /"hash"/);
  });

  it('has nothing to do where nothing is remembered', async () => {
    assert.equal(await clearPins(place.stateDir), 0);
    rmSync(place.stateDir, { recursive: true });
    await assert.rejects(clearPins(place.stateDir), { code: 'ENOENT' });
  });
});
