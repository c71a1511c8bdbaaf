/** The whole program, as operators start and ask it, on a token that refuses, hangs or is killed. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { afterEach, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KmsClient, statusOf } from '../api/support/clients.ts';
import { faultyModule, type FaultyModule } from '../module/index.ts';
import { makeInstallation, type Installation } from '../service/installation.ts';
import { program, verb, type Watched } from '../service/processes.ts';
import { ensureBundle } from './support/bundle.ts';

let installation: Installation;
let faulty: FaultyModule;
let running: Watched[] = [];

before(() => ensureBundle());
beforeEach(async () => {
  installation = await makeInstallation();
  const { module, environment } = installation.hsm;
  faulty = faultyModule({ inner: module, innerEnv: environment });
  installation.configure((raw) => {
    Object.assign(raw.token, { module: faulty.path, environment: faulty.environment });
    for (const listener of raw.listeners) listener['patience'] = 0;
  });
});
afterEach(async () => {
  for (const service of running) {
    service.kill();
    await service.ended();
  }
  running = [];
  faulty.cleanup();
  await installation.hsm.cleanup();
});

async function serve(until: RegExp): Promise<Watched> {
  const service = program('serve', '--config', installation.config);
  running.push(service);
  await service.said(until);
  // The token process starts first, and may come to its end before the sockets are there.
  await service.said(/^listening$/);
  return service;
}

const ask = (...words: string[]): ReturnType<typeof verb> => verb(...words, '--config', installation.config);
const logins = (): number => faulty.counts().logins.length;

/** Whether it runs; one that ended and that nobody has waited for does not. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

describe('a wrong PIN', () => {
  test('is one C_Login over restarts of the service and every verb, until pin clear', async () => {
    installation.fixture.write('pin', '000000');
    const client = new KmsClient(installation.fixture.at('run/kubernetes.sock'));
    try {
      for (let restart = 0; restart < 10; restart++) {
        const service = await serve(/login refused/);
        const answer = await client.encrypt(Buffer.from('x'), { deadlineMs: 5_000 });
        assert.equal(statusOf(answer), 'FAILED_PRECONDITION', answer.error?.details);
        if (restart === 0) {
          for (const words of [['status'], ['keys', 'list'], ['keys', 'inspect', 'key-2026'], ['roundtrip'], ['pin']]) {
            ask(...words);
          }
        }
        if (restart % 2 === 0) service.kill();
        else service.child.kill('SIGTERM');
        await service.ended();
      }
      // Nobody serves: these start a token process of their own.
      for (const words of [['keys', 'list'], ['keys', 'inspect', 'key-2026'], ['keys', 'create', 'another'], ['pin']]) {
        ask(...words);
      }
      assert.equal(logins(), 1);

      await serve(/login refused/);
      installation.fixture.write('pin', installation.hsm.pin);
      assert.equal(ask('pin', 'clear').status, 0);
      const until = performance.now() + 10_000;
      let last = 'none';
      while (last !== 'OK' && performance.now() < until) {
        last = statusOf(await client.encrypt(Buffer.from('x'), { deadlineMs: 5_000 }));
        await sleep(50);
      }
      assert.equal(last, 'OK', 'without a restart');
      assert.equal(logins(), 2);
      const shown = ask('pin').stdout;
      assert.ok(!shown.includes(installation.hsm.pin) && !shown.includes('000000'), shown);
    } finally {
      client.close();
    }
  });
});

describe('the token process', () => {
  test('killed under load again and again: no caller sees an error', async (t) => {
    const service = await serve(/^ready/);
    const client = new KmsClient(installation.fixture.at('run/kubernetes.sock'));
    const seen: Record<string, number> = {};
    let load = true;
    const callers = Array.from({ length: 16 }, async () => {
      while (load) {
        const made = await client.encrypt(Buffer.from('value'), { deadlineMs: 10_000 });
        const back =
          made.response === undefined ? made : await client.decrypt(made.response.cipher, { deadlineMs: 10_000 });
        const status = statusOf(back);
        seen[status] = (seen[status] ?? 0) + 1;
        await sleep(3);
      }
    });
    for (let kills = 0; kills < 3; kills++) {
      await sleep(500);
      const { token } = JSON.parse(ask('status', '--json').stdout) as { token: { process: { pid: number } } };
      process.kill(token.process.pid, 'SIGKILL');
    }
    await sleep(800);
    load = false;
    await Promise.all(callers);
    client.close();
    t.diagnostic(JSON.stringify(seen));
    assert.deepEqual(Object.keys(seen), ['OK']);
    assert.equal(service.lines().filter(({ message }) => message === 'token process started').length, 4);
  });

  test('ends with the plugin process, also while it is stopped', async () => {
    const service = await serve(/^ready/);
    const pid = Number(service.lines().find(({ message }) => message === 'token process started')?.['pid']);
    process.kill(pid, 'SIGSTOP');
    service.child.kill('SIGTERM');
    assert.equal(await service.ended(), 0);
    const until = performance.now() + 9_000;
    while (isAlive(pid) && performance.now() < until) await sleep(50);
    assert.ok(!isAlive(pid));
  });

  test('ends with the plugin process, also while it hangs in the module', async () => {
    const service = await serve(/^ready/);
    const client = new KmsClient(installation.fixture.at('run/kubernetes.sock'));
    faulty.control({ rules: [{ on: '*', hang: true }] });
    const answer = await client.encrypt(Buffer.from('x'), { deadlineMs: 500 });
    assert.equal(statusOf(answer), 'DEADLINE_EXCEEDED');
    client.close();
    const started = service.lines().find(({ message }) => message === 'token process started');
    const pid = Number(started?.['pid']);
    assert.ok(isAlive(pid));
    service.kill();
    await service.ended();
    // It may finish a call first: SoftHSM2 writes its token's file anew at a login.
    const until = performance.now() + 9_000;
    while (isAlive(pid) && performance.now() < until) await sleep(50);
    assert.ok(!isAlive(pid));
  });
});
