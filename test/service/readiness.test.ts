/** Readiness: from the last real call, else from known-answer calls in the background. */
import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import type { FinishedCall } from '../../src/api/index.ts';
import type { Call } from '../../src/call/index.ts';
import { FAILURES, KmsError, type FailureKind } from '../../src/errors/index.ts';
import { Readiness, type ReadinessTimes } from '../../src/service/readiness.ts';
import { pause, until } from '../api/support/fixture.ts';
import { KeptLog } from '../api/support/log.ts';
import { makeInstallation } from './installation.ts';
import { program } from './processes.ts';

const OK = { ok: true, reason: 'ok' };
const TIMES = { freshMs: 60_000, failedMs: 60_000, idleMs: 60_000, probeMs: 60_000 };

/** An HSM that answers known-answer calls when it is told to. */
class Hsm {
  health = OK;
  good: number | undefined = performance.now();
  readonly asked: { resolve(): void; reject(error: Error): void; call: Call }[] = [];

  probe(call: Call): Promise<void> {
    return new Promise((resolve, reject) => {
      this.asked.push({ resolve, reject, call });
    });
  }
}

function readiness(t: TestContext, times: Partial<ReadinessTimes> = {}) {
  const hsm = new Hsm();
  const log = new KeptLog();
  const sources = {
    health: () => hsm.health,
    lastGood: () => hsm.good,
    probe: (call: Call) => hsm.probe(call),
  };
  const ready = new Readiness(sources, log, { ...TIMES, ...times });
  t.after(() => ready.close());
  return { hsm, log, ready };
}

const failed = (kind: FailureKind): FinishedCall => ({
  api: 'v1beta1',
  method: 'Decrypt',
  listener: 'credhub',
  status: FAILURES[kind].status,
  code: FAILURES[kind].code,
  durationMs: 1,
  requestBytes: 1,
  responseBytes: 0,
  keyId: undefined,
  uid: undefined,
});

describe('readiness', () => {
  it('is what the last good answer says while that is recent, and asks nobody', (t) => {
    const { hsm, ready } = readiness(t);
    for (let i = 0; i < 1_000; i++) assert.deepEqual(ready.ask(), OK);
    assert.equal(hsm.asked.length, 0);
  });

  it('has the HSM asked once in the background when nothing happened for long, however many ask', async (t) => {
    const { hsm, ready, log } = readiness(t, { freshMs: 20 });
    await pause(30);
    for (let i = 0; i < 1_000; i++) assert.deepEqual(ready.ask(), OK);
    assert.equal(hsm.asked.length, 1);
    hsm.asked[0]?.reject(new KmsError('token-away', 'CKR_DEVICE_REMOVED'));
    await until(() => !ready.ask().ok);
    assert.equal(ready.ask().reason, 'the HSM failed a known-answer call: CKR_DEVICE_REMOVED');
    assert.deepEqual(log.lines[0]?.fields, { code: 'KMS-2001' });
    assert.deepEqual(ready.probes, { answered: 0, failed: 1 });
  });

  it('tries a failed HSM again soon, and believes a good answer to anybody', async (t) => {
    const { hsm, ready } = readiness(t, { freshMs: 0, failedMs: 20 });
    await pause(5);
    ready.ask();
    hsm.asked[0]?.reject(new KmsError('token-away', 'gone'));
    await until(() => !ready.ask().ok);
    assert.equal(hsm.asked.length, 1);
    await pause(30);
    assert.equal(ready.ask().ok, false);
    assert.equal(hsm.asked.length, 2);
    hsm.asked[1]?.resolve();
    await until(() => ready.ask().ok);
    assert.deepEqual(ready.probes, { answered: 1, failed: 1 });
    ready.finished(failed('token-away'));
    assert.equal(ready.ask().ok, false);
    await pause(2);
    hsm.good = performance.now();
    assert.deepEqual(ready.ask(), OK);
  });

  it('fails with the last real call where the HSM is to blame, and not where the caller is', (t) => {
    const kinds = Object.keys(FAILURES) as FailureKind[];
    const failing = kinds.filter((kind) => {
      const { ready } = readiness(t);
      ready.finished(failed(kind));
      return !ready.ask().ok;
    });
    assert.deepEqual(failing, ['token-away', 'token-starting', 'pin-refused', 'pin-not-initialized', 'iv-refused']);
  });

  it('asks the HSM itself after a deadline, which may be the fault of a client in a hurry', async (t) => {
    const { hsm, ready } = readiness(t);
    await pause(2);
    ready.finished(failed('deadline'));
    for (let i = 0; i < 10; i++) assert.deepEqual(ready.ask(), OK);
    assert.equal(hsm.asked.length, 1);
    hsm.asked[0]?.resolve();
    await pause(2);
    assert.deepEqual(ready.ask(), OK);
    assert.equal(hsm.asked.length, 1);
  });

  it('says what the keyring knows without asking, and leaves an absent token to its own attempts', async (t) => {
    const { hsm, ready } = readiness(t, { freshMs: 0, idleMs: 3 });
    hsm.health = { ok: false, reason: 'the token is away: CKR_TOKEN_NOT_PRESENT' };
    await pause(30);
    assert.deepEqual(ready.ask(), hsm.health);
    assert.equal(hsm.asked.length, 0);
  });

  it('has an idle HSM asked now and then, though nobody asks', async (t) => {
    const { hsm, ready } = readiness(t, { idleMs: 30 });
    await until(() => hsm.asked.length === 1);
    await pause(60);
    assert.equal(hsm.asked.length, 1, 'one at a time');
    hsm.asked[0]?.resolve();
    await until(() => hsm.asked.length === 2);
    ready.close();
  });

  it('gives a known-answer call a time of its own', async (t) => {
    const { hsm, ready } = readiness(t, { freshMs: 0, probeMs: 10 });
    await pause(2);
    ready.ask();
    await until(() => hsm.asked[0]?.call.signal.aborted === true);
  });
});

describe('the health port of a service whose HSM hangs while nobody calls', () => {
  it('tells so after somebody asked, stays live, and recovers', async () => {
    const installation = await makeInstallation();
    const service = program('serve', '--config', installation.config);
    let tokenProcess = 0;
    try {
      await service.said(/^ready/);
      tokenProcess = Number((await service.said(/^token process started/))['pid']);
      const get = async (path: string): Promise<{ status: number; text: string }> => {
        const answer = await fetch(`http://127.0.0.1:${installation.healthPort}${path}`);
        return { status: answer.status, text: await answer.text() };
      };
      assert.equal((await get('/healthz/readiness')).status, 200);
      process.kill(tokenProcess, 'SIGSTOP');
      const becomes = async (status: number): Promise<string> => {
        for (;;) {
          const { status: now, text } = await get('/healthz/readiness');
          if (now === status) return text;
          assert.equal((await get('/healthz/liveness')).status, 200);
          await pause(100);
        }
      };
      assert.match(await becomes(503), /known-answer call|has not answered/);
      assert.equal((await get('/healthz/liveness')).status, 200);
      assert.equal((await get('/healthz')).status, 503);
      process.kill(tokenProcess, 'SIGCONT');
      await becomes(200);
    } finally {
      if (tokenProcess > 0) process.kill(tokenProcess, 'SIGCONT');
      await service.stop();
      await installation.cleanup();
    }
  });
});
