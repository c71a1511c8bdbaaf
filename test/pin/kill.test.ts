import assert from 'node:assert/strict';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LockHeldError } from '../../src/lock/index.ts';
import { clearPins, describePins } from '../../src/token/pin/index.ts';
import { expectKind, Place } from './place.ts';

const MINUTE = 60_000;
const LONGEST_PAUSE = 5 * MINUTE;
let place: Place;

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await sleep(20);
}

beforeEach(() => {
  place = new Place();
});
afterEach(() => place.remove());

for (const end of ['killed-before-call', 'killed-in-call'] as const) {
  const each = end === 'killed-in-call' ? 1 : 0;

  describe(`a process ${end.replaceAll('-', ' ')} of C_Login`, () => {
    it('leaves a PIN never known good one more try, after a pause', async () => {
      assert.equal(await place.run({ pin: 'new', end }), undefined);
      const [record] = describePins(place.stateDir);
      assert.equal(record?.state, 'cut-off');
      const later = expectKind(await place.run({ pin: 'new' }), 'later');
      assert.ok(later.retryAfterMs <= 1000);
      assert.equal(await place.run({ pin: 'new', end, ahead: 1_000 }), undefined);
      const refused = expectKind(await place.run({ pin: 'new', ahead: 24 * 60 * MINUTE }), 'refused');
      assert.equal(refused.ckr, undefined);
      assert.match(refused.reason, /kms-plugin pin clear/);
      assert.equal(place.calls().length, 2 * each);
      expectKind(await place.run({ pin: 'other' }), 'logged-in');
    });

    it('leaves a PIN never known good no try under COUNT_LOW', async () => {
      await place.run({ pin: 'new', end });
      expectKind(await place.run({ pin: 'new', ahead: LONGEST_PAUSE, flags: { countLow: true } }), 'later');
      assert.equal(place.calls().length, each);
      expectKind(await place.run({ pin: 'new', ahead: LONGEST_PAUSE }), 'logged-in');
    });

    it('leaves a PIN known good any number of tries, under COUNT_LOW too, after pauses that grow to 5 minutes', async () => {
      await place.login('right');
      const pauses: number[] = [];
      let ahead = 0;
      for (let i = 0; i < 12; i++) {
        assert.equal(await place.run({ pin: 'right', end, ahead }), undefined);
        const later = expectKind(await place.login('right', { ahead, flags: { countLow: true } }), 'later');
        pauses.push(later.retryAfterMs);
        ahead += LONGEST_PAUSE;
      }
      pauses.forEach((pause, i) => {
        const most = Math.min(LONGEST_PAUSE, 1000 * 2 ** i);
        assert.ok(pause <= most && pause >= most / 2, `pause ${i + 1}: ${pause}`);
      });
      assert.equal(place.calls().length, 1 + 12 * each);
      expectKind(await place.login('right', { ahead, flags: { countLow: true } }), 'logged-in');
      expectKind(await place.login('right', { ahead }), 'logged-in');
      assert.equal(await place.run({ pin: 'right', end, ahead }), undefined);
      const again = expectKind(await place.login('right', { ahead }), 'later');
      assert.ok(again.retryAfterMs <= 1000, 'a good login makes the pause short again');
    });

    it('is not waited for longer because the clock went back', async () => {
      await place.login('right');
      await place.run({ pin: 'right', end, ahead: 24 * 60 * MINUTE });
      expectKind(await place.login('right'), 'logged-in');
    });
  });
}

describe('cut off and then answered', () => {
  it('a refusal is the last word', async () => {
    await place.run({ pin: 'new', end: 'killed-in-call' });
    expectKind(await place.login('new', { ahead: MINUTE, answer: 'CKR_PIN_INCORRECT' }), 'refused');
    expectKind(await place.login('new', { ahead: 2 * MINUTE }), 'refused');
    assert.equal(place.calls().length, 2);
  });

  it('a good login settles what was cut off before, for good', async () => {
    await place.run({ pin: 'old', end: 'killed-in-call' });
    expectKind(await place.login('old', { ahead: MINUTE }), 'logged-in');
    expectKind(await place.login('new', { ahead: MINUTE }), 'logged-in');
    await place.run({ pin: 'old', end: 'killed-in-call', ahead: MINUTE });
    expectKind(await place.login('old', { ahead: 2 * MINUTE }), 'logged-in');
  });

  it('a fault of the device closes that intent, not the one cut off before', async () => {
    await place.run({ pin: 'new', end: 'killed-in-call' });
    expectKind(await place.login('new', { ahead: MINUTE, answer: 'CKR_DEVICE_ERROR' }), 'failed');
    expectKind(await place.login('new', { ahead: MINUTE, answer: 'CKR_DEVICE_ERROR' }), 'failed');
    await place.run({ pin: 'new', end: 'killed-in-call', ahead: MINUTE });
    expectKind(await place.login('new', { ahead: 10 * MINUTE }), 'refused');
  });
});

describe('kills at random moments', () => {
  it('let a wrong PIN be tried twice at most', async () => {
    for (let i = 0; i < 25; i++) {
      await place.runAndKill({ pin: 'wrong', answer: 'CKR_PIN_INCORRECT', ahead: i * LONGEST_PAUSE });
    }
    expectKind(await place.login('wrong', { answer: 'CKR_PIN_INCORRECT', ahead: 26 * LONGEST_PAUSE }), 'refused');
    expectKind(await place.login('wrong', { ahead: 27 * LONGEST_PAUSE }), 'refused');
    assert.ok(place.calls().length <= 2, `${place.calls().length} calls`);
  });

  it('never lose a PIN that was good', async () => {
    await place.login('right');
    for (let i = 0; i < 25; i++) {
      await place.runAndKill({ pin: 'right', ahead: i * LONGEST_PAUSE });
    }
    expectKind(await place.login('right', { ahead: 26 * LONGEST_PAUSE, flags: { countLow: true } }), 'logged-in');
  });
});

describe('many processes at once', () => {
  it('call C_Login once with a wrong PIN', async () => {
    const wish = { pin: 'wrong', answer: 'CKR_PIN_INCORRECT' };
    const outcomes = await Promise.all(Array.from({ length: 20 }, () => place.run(wish)));
    for (const outcome of outcomes) assert.equal(expectKind(outcome, 'refused').ckr, 'CKR_PIN_INCORRECT');
    assert.deepEqual(place.calls(), ['wrong']);
  });

  it('all log in with the right PIN', async () => {
    const outcomes = await Promise.all(Array.from({ length: 20 }, () => place.run({ pin: 'right' })));
    for (const outcome of outcomes) expectKind(outcome, 'logged-in');
    assert.equal(place.calls().length, 20);
  });
});

describe('a login that hangs', () => {
  it('keeps others out until its process is killed, and its intent stays', async () => {
    const hung = place.start({ pin: 'new', end: 'hangs-in-call' });
    await until(() => place.calls().length === 1);
    const later = expectKind(await place.run({ pin: 'new', lockWaitMs: 200 }), 'later');
    assert.match(later.reason, /another process/);
    assert.ok(later.retryAfterMs > 0);
    expectKind(await place.run({ pin: 'other', lockWaitMs: 0 }), 'later');
    assert.equal(describePins(place.stateDir)[0]?.state, 'cut-off');
    await assert.rejects(clearPins(place.stateDir), LockHeldError);
    hung.kill('SIGKILL');
    await once(hung, 'exit');
    assert.equal(place.calls().length, 1);
    expectKind(await place.run({ pin: 'new', ahead: MINUTE, lockWaitMs: 0 }), 'logged-in');
  });
});
