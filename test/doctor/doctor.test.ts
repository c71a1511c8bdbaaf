/** How doctor behaves whatever it finds: when the service is down or hangs, on a terminal and for machines. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { after, afterEach, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadConfig } from '../../src/config/index.ts';
import type { Diagnosis, Verdict } from '../../src/doctor/index.ts';
import { connects } from '../../src/doctor/look/listening.ts';
import { isLocked } from '../../src/doctor/look/locks.ts';
import { CHECKS } from '../../src/doctor/registry.ts';
import { verb } from '../service/processes.ts';
import { firstFailure, Place, timeOf } from './place.ts';

const BUNDLE = path.resolve(import.meta.dirname, '../../dist/kms-plugin.cjs');

let place: Place;

before(async () => {
  place = await Place.make();
});
after(() => place.cleanup());

function verdictOf({ lines }: Diagnosis, check: string): Verdict | undefined {
  return lines.find((line) => line.check === check)?.verdict;
}

const run = (...args: string[]) => verb('doctor', ...args, '--config', place.installation.config);

describe('doctor while the service runs', () => {
  before(async () => {
    place.start();
    await place.well();
  });

  it('says something at every stop, in the order of the path', async () => {
    const { lines, verdict } = await place.doctor();
    const names = [...new Set(lines.map(({ check }) => check))];
    assert.deepEqual(
      names,
      CHECKS.map(({ name }) => name),
    );
    // kube-apiserver is not there.
    assert.equal(verdict, 'warning');
    assert.equal(run().status, 0, 'warnings do not fail');
  });

  it('has colour on a terminal only', () => {
    const line = [process.execPath, BUNDLE, 'doctor', '--config', place.installation.config].join(' ');
    const onTerminal = execFileSync('script', ['-qec', line, '/dev/null'], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], TERM: 'xterm' },
    });
    assert.match(onTerminal, /\u001b\[32mok/);
    assert.doesNotMatch(run().stdout, /\u001b/);
    assert.match(run().stdout, /^configuration  ok {7}/);
  });

  it('knows a configuration that cannot be read, and one of another service', () => {
    const missing = verb('doctor', '--json', '--config', place.at('no-such.yml'));
    assert.equal(missing.status, 1);
    assert.equal(firstFailure(JSON.parse(missing.stdout) as Diagnosis)?.check, 'configuration');
    assert.equal(run('--log', 'kms-plugin.log').status, 2);
  });

  it('asks the running service for the rest when the file has become faulty', async () => {
    place.configure((raw) => (raw['nonsense'] = 1));
    const diagnosis = await place.doctor();
    assert.equal(firstFailure(diagnosis)?.check, 'configuration');
    for (const check of ['plugin process', 'token process', 'token', 'login', 'key', 'kubernetes']) {
      assert.notEqual(verdictOf(diagnosis, check), 'failure', check);
    }
    assert.match(
      diagnosis.lines.find(({ check }) => check === 'key')?.seen ?? '',
      /key-2026 \(active\): id [0-9a-f]{32}/,
    );
    place.configure();
  });

  it('ends in time when service and module hang', async () => {
    place.faulty.control({ rules: [{ on: '*', stall: true }] });
    place.service.child.kill('SIGSTOP');
    const diagnosis = await place.doctor();
    place.service.child.kill('SIGCONT');
    place.faulty.control({});
    assert.ok(diagnosis.durationMs < timeOf(diagnosis));
    assert.equal(firstFailure(diagnosis)?.check, 'socket');
    await place.well();
  });

  for (const [after, end] of [
    ['a stop', () => place.stop()],
    // Its sockets' files are still there.
    ['a crash', () => place.kill()],
  ] as const) {
    it(`finds one well that has only begun after ${after}: locked, and nobody listens yet`, async () => {
      const { controlSocket } = loadConfig(place.installation.config);
      const until = performance.now() + 20_000;
      // When it listens, its token process is not well for long yet.
      place.faulty.control({ rules: [{ on: 'C_Initialize', delayUs: 700_000 }] });
      do {
        assert.ok(performance.now() < until, 'never seen between lock and listening');
        await end();
        place.start();
        while (!isLocked('/proc', place.at('state/serve.lock')) && performance.now() < until) await sleep(1);
      } while ((await connects(controlSocket, 1_000)) === 'connected');
      const diagnosis = await place.doctorAround({});
      assert.equal(firstFailure(diagnosis), undefined);
    });
  }
  afterEach(() => place.faulty.control({}));

  after(() => place.stop());
});

describe('doctor while the service is down', () => {
  it('reaches the token itself, and says what a start would meet', async () => {
    const diagnosis = await place.doctor();
    assert.equal(firstFailure(diagnosis)?.check, 'socket');
    for (const check of ['token process', 'module', 'token', 'login', 'key']) {
      assert.equal(verdictOf(diagnosis, check), 'ok', check);
    }
  });

  it('ends in time when the module hangs', async () => {
    place.faulty.control({ rules: [{ on: 'C_Initialize', stall: true }] });
    const diagnosis = await place.doctor();
    place.faulty.control({});
    assert.ok(diagnosis.durationMs < timeOf(diagnosis));
    assert.notEqual(verdictOf(diagnosis, 'token'), 'ok');
  });

  it('spends no login on a PIN that was refused', async () => {
    const logins = (): number => place.faulty.counts().logins.length;
    place.write(place.at('pin'), 'wrong-pin');
    const before = logins();
    assert.equal(verdictOf(await place.doctor(), 'login'), 'failure');
    assert.equal(logins(), before + 1, 'a PIN that was never tried');
    for (let again = 0; again < 2; again++) {
      const refused = (await place.doctor()).lines.find(({ check }) => check === 'login');
      assert.match(refused?.seen ?? '', /refused the PIN with CKR_PIN_INCORRECT/);
    }
    assert.equal(logins(), before + 1);
    place.write(place.at('pin'), place.installation.hsm.pin);
  });
});
