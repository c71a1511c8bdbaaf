/** A PIN that was refused is never tried again, whatever restarts: counted by the module itself. */
import assert from 'node:assert/strict';
import { renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { clearPins, describePins } from '../../src/token/index.ts';
import { LARGE_SLOTS, type Rule } from '../module/index.ts';
import { assertFails, Bench, failure, type Host } from './support/installation.ts';

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

  get pinFile(): string {
    return path.join(this.bench.hsm.directory, 'pin');
  }

  writePin(pin: string): void {
    writeFileSync(this.pinFile, pin, { mode: 0o600 });
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

  pinTest('CKF_PROTECTED_AUTHENTICATION_PATH: no C_Login, unless pin_despite_flag', async (place) => {
    place.bench.faulty.control({ tokenInfo: { set: ['CKF_PROTECTED_AUTHENTICATION_PATH'] } });
    const host = place.bench.host();
    await sleep(2_500);
    const error = await failure(host.encrypt(Buffer.alloc(1)));
    assert.equal(error.status, 'UNAVAILABLE');
    assert.match(error.message, /token\.pin_despite_flag: true/);
    assert.equal(place.logins(), 0);
    const other = await place.bench.readyHost({ token: { pinDespiteFlag: true } });
    await other.encrypt(Buffer.alloc(1));
    assert.equal(place.logins(), 1);
  });

  pinTest('CKF_USER_PIN_COUNT_LOW is gone from the report once the right PIN has logged in', async (place) => {
    // SoftHSM2 sets it at a wrong PIN, and takes it back at the right one.
    place.writePin('000000');
    const host = place.bench.host();
    await assertFails(host.encrypt(Buffer.alloc(1)), 'pin-refused');
    const flags = (): readonly string[] => host.token.report().token?.flags ?? [];
    assert.ok(!flags().includes('user PIN count low'), 'it was read before the login');
    place.writePin(place.bench.hsm.pin);
    await host.ready();
    await host.encrypt(Buffer.alloc(1));
    assert.ok(flags().length > 0 && !flags().includes('user PIN count low'), flags().join());
    assert.deepEqual(
      describePins(host.stateDir).map(({ state, settled }) => [state, settled]),
      [
        ['refused', true],
        ['good', false],
      ],
    );
  });

  pinTest('CKF_USER_PIN_COUNT_LOW is seen, and seen to go, while the token is logged in', async (place) => {
    const host = await place.bench.readyHost();
    const flagged = async (wanted: boolean): Promise<void> => {
      const until = performance.now() + 90_000;
      while (host.token.report().token?.flags.includes('user PIN count low') !== wanted) {
        assert.ok(performance.now() < until, `still ${String(!wanted)}`);
        await sleep(200);
      }
    };
    await flagged(false);
    place.bench.faulty.control({ tokenInfo: { set: ['CKF_USER_PIN_COUNT_LOW'] } });
    await flagged(true);
    place.bench.faulty.control({});
    await flagged(false);
    assert.equal(place.logins(), 1);
  });

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

describe('a PIN file that changes while the token is logged in', { concurrency: 3 }, () => {
  /** Resolves when the report's word on the PIN file fits. */
  async function reported(host: Host, wanted: RegExp | undefined): Promise<void> {
    const until = performance.now() + 30_000;
    for (;;) {
      const { pinFile } = host.token.report();
      if (wanted === undefined ? pinFile === undefined : wanted.test(pinFile ?? '')) return;
      assert.ok(performance.now() < until, `it says ${String(pinFile)}`);
      await sleep(100);
    }
  }

  pinTest('is compared, without a login', async (place) => {
    const host = await place.bench.readyHost();
    const { pin } = place.bench.hsm;
    await sleep(1_500);
    await reported(host, undefined);
    const another = /pin holds another PIN than the one that is logged in; it will be tried at the next start/;
    place.writePin('000000');
    await reported(host, another);
    place.writePin(pin);
    await reported(host, undefined);
    place.writePin(`${pin}\n`);
    await reported(host, /ends in a line feed.*The login of now goes on/);
    renameSync(place.pinFile, `${place.pinFile}.away`);
    await reported(host, /there is no such file/);
    place.writePin('000001');
    await reported(host, another);
    await host.encrypt(Buffer.alloc(1));
    assert.equal(place.logins(), 1);
    assert.equal(host.token.report().state, 'ready');
    const said = host.said('warn').filter((line) => line.includes('another PIN'));
    assert.ok(said.length === 2 && said.every((line) => !line.includes('0000')), said.join());
  });

  pinTest('to one that was refused before is told as such', async (place) => {
    place.writePin('000000');
    const host = place.bench.host();
    await assertFails(host.encrypt(Buffer.alloc(1)), 'pin-refused');
    place.writePin(place.bench.hsm.pin);
    await host.ready();
    place.writePin('000000');
    await reported(host, /has refused it before: it is not tried again/);
    assert.equal(place.logins(), 2);
  });
});

test('a slot id above 2^53 is taken, found and shown exactly', async (t) => {
  const bench = await Bench.make();
  t.after(() => bench.cleanup());
  const first = await bench.readyHost();
  const slot = String(BigInt(first.token.report().token?.slot ?? 0) | LARGE_SLOTS);
  await bench.reset();
  bench.faulty.control({ largeSlots: true });
  const host = await bench.readyHost({ token: { partition: { by: 'slot', slot } } });
  await host.encrypt(Buffer.alloc(1));
  assert.equal(host.token.report().token?.slot, slot);
  assert.notEqual(String(Number(slot)), slot);
  // One beside it, which a number does not tell from it, is another slot.
  const beside = bench.host({ token: { partition: { by: 'slot', slot: String(BigInt(slot) ^ 1n) } } });
  assert.match(
    (await failure(beside.encrypt(Buffer.alloc(1)))).message,
    new RegExp(`no token with slot.*slot ${slot}`),
  );
});
