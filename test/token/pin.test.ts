/** A PIN that was refused is never tried again, whatever restarts: counted by the module itself. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { clearPins, describePins } from '../../src/token/index.ts';
import type { Rule } from '../module/index.ts';
import { assertFails, Bench, failure } from './support/installation.ts';

/** A token of its own for each test, since they change its PIN file and flags; so they can wait side by side. */
class Place {
  readonly bench: Bench;

  constructor(bench: Bench) {
    this.bench = bench;
  }

  /** C_Login calls so far, by any process. */
  logins(): number {
    return this.bench.faulty.counts().logins.length;
  }

  writePin(pin: string): void {
    writeFileSync(path.join(this.bench.hsm.directory, 'pin'), pin, { mode: 0o600 });
  }
}

function pinTest(name: string, run: (place: Place, t: TestContext) => Promise<void>): void {
  test(name, async (t) => {
    const bench = await Bench.make();
    t.after(() => bench.cleanup());
    await run(new Place(bench), t);
  });
}

describe('a refused PIN', { concurrency: 3 }, () => {
  pinTest('is one C_Login, over 20 restarts of process and service', async (place) => {
    place.writePin('000000');
    const stateDir = place.bench.newStateDir();
    for (let restart = 0; restart < 10; restart++) {
      const host = place.bench.host({ stateDir });
      const error = await failure(host.encrypt(Buffer.alloc(1)));
      assert.equal(error.kind, 'pin-refused');
      assert.equal(error.status, 'FAILED_PRECONDITION');
      assert.match(error.message, /CKR_PIN_INCORRECT.*pin_file/);
      // Operators ask, and the process is killed under it.
      assert.equal(host.keyring.health().availability, 'refused');
      process.kill(host.token.report().process.pid ?? 0, 'SIGKILL');
      await sleep(100);
      await failure(host.encrypt(Buffer.alloc(1)));
      host.token.reconnect();
      await sleep(50);
      await host.close();
    }
    assert.equal(place.logins(), 1);
  });

  pinTest('is forgotten by pin clear, and the right one is taken without a restart', async (place, t) => {
    place.writePin('000000');
    const host = place.bench.host();
    await assertFails(host.encrypt(Buffer.alloc(1)), 'pin-refused');
    assert.equal(describePins(host.stateDir)[0]?.state, 'refused');
    place.writePin(place.bench.hsm.pin);
    assert.equal(await clearPins(host.stateDir), 1);
    const started = performance.now();
    host.token.reconnect();
    await host.ready();
    t.diagnostic(`ready ${Math.round(performance.now() - started)} ms after pin clear`);
    await host.encrypt(Buffer.alloc(1));
    assert.deepEqual(
      place.bench.faulty.counts().logins.map(({ answer }) => answer),
      ['CKR_PIN_INCORRECT', 'CKR_OK'],
    );
  });

  pinTest('that is corrected in its file is noticed without anything else', async (place) => {
    place.writePin('000000');
    const host = place.bench.host();
    await assertFails(host.encrypt(Buffer.alloc(1)), 'pin-refused');
    place.writePin(place.bench.hsm.pin);
    await host.ready();
    await host.encrypt(Buffer.alloc(1));
    assert.equal(place.logins(), 2);
  });

  for (const answer of ['CKR_PIN_LOCKED', 'CKR_PIN_EXPIRED', 'CKR_PIN_INVALID', 'CKR_PIN_LEN_RANGE']) {
    pinTest(`by ${answer} is one C_Login, too`, async (place) => {
      place.bench.faulty.control({ rules: [{ on: 'C_Login', answer }] });
      const stateDir = place.bench.newStateDir();
      for (let restart = 0; restart < 3; restart++) {
        const host = place.bench.host({ stateDir });
        const error = await assertFails(host.encrypt(Buffer.alloc(1)), 'pin-refused');
        assert.match(error.message, new RegExp(answer));
        await host.close();
      }
      assert.equal(place.logins(), 1);
    });
  }
});

describe('a login that fails otherwise', { concurrency: 3 }, () => {
  pinTest('is tried again: the token was in trouble, not the PIN', async (place) => {
    const rules: Rule[] = [{ on: 'C_Login', answer: 'CKR_DEVICE_ERROR', times: 3 }];
    place.bench.faulty.control({ rules });
    const host = place.bench.host();
    await host.ready();
    await host.encrypt(Buffer.alloc(1));
    assert.equal(place.logins(), 4);
  });

  pinTest('by a crash of the process is tried once more, then never', async (place) => {
    place.bench.faulty.control({ rules: [{ on: 'C_Login', crash: 'segv' }] });
    const host = place.bench.host();
    await sleep(6_000);
    const error = await failure(host.encrypt(Buffer.alloc(1)));
    assert.equal(error.kind, 'pin-refused', error.message);
    assert.match(error.message, /pin clear/);
    assert.equal(place.logins(), 2);
  });

  pinTest('without a user PIN is told, and tried once more when the token shows one', async (place) => {
    place.bench.faulty.control({
      rules: [{ on: 'C_Login', answer: 'CKR_USER_PIN_NOT_INITIALIZED', times: 1 }],
      tokenInfo: { clear: ['CKF_USER_PIN_INITIALIZED'] },
    });
    const host = place.bench.host();
    await assertFails(host.encrypt(Buffer.alloc(1)), 'pin-not-initialized');
    await sleep(6_000);
    assert.equal(place.logins(), 1);
    place.bench.faulty.control({});
    await host.ready();
    assert.equal(place.logins(), 2);
  });
});

describe('what the token says of its PIN', { concurrency: 3 }, () => {
  for (const flag of ['CKF_USER_PIN_FINAL_TRY', 'CKF_USER_PIN_LOCKED']) {
    pinTest(`${flag}: no C_Login at all`, async (place) => {
      place.bench.faulty.control({ tokenInfo: { set: [flag] } });
      const host = place.bench.host();
      await sleep(2_500);
      const error = await failure(host.encrypt(Buffer.alloc(1)));
      assert.equal(error.status, 'UNAVAILABLE');
      assert.match(error.message, /user PIN/);
      assert.equal(place.logins(), 0);
    });
  }

  pinTest('CKF_USER_PIN_COUNT_LOW: a PIN that was never tried is, one that was not good is not', async (place) => {
    const stateDir = place.bench.newStateDir();
    place.bench.faulty.control({
      tokenInfo: { set: ['CKF_USER_PIN_COUNT_LOW'] },
      rules: [{ on: 'C_Login', answer: 'CKR_DEVICE_ERROR', times: 1 }],
    });
    const host = place.bench.host({ stateDir });
    await sleep(2_500);
    assert.equal(place.logins(), 1);
    assert.match((await failure(host.encrypt(Buffer.alloc(1)))).message, /counted wrong PINs/);
    place.bench.faulty.control({});
    await clearPins(stateDir);
    host.token.reconnect();
    await host.ready();
    place.bench.faulty.control({ tokenInfo: { set: ['CKF_USER_PIN_COUNT_LOW'] } });
    place.bench.faulty.loseSessions();
    await host.encrypt(Buffer.alloc(1));
  });
});
