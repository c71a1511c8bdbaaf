/** Modules that refuse sessions that only read, and tokens that give one session. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { ownCall } from '../../src/call/index.ts';
import type { Faults } from '../module/index.ts';
import { assertFails, Bench, type Host } from './support/installation.ts';

let bench: Bench;
let made = 0;

before(async () => {
  bench = await Bench.make({ active: {} });
});
afterEach(() => bench.reset());
after(() => bench.cleanup());

/** Everything that a token is for. */
async function works(host: Host): Promise<void> {
  await Promise.all(
    Array.from({ length: 40 }, async (_, at) => {
      const value = Buffer.alloc(at, at);
      assert.deepEqual(await host.decrypt(await host.encrypt(value)), value);
    }),
  );
  const key = await host.keyring.createKey(`made-${made++}`, ownCall(10_000));
  assert.deepEqual(key.problems, []);
  const forged = await host.encrypt(Buffer.alloc(50));
  const good = Buffer.from(forged);
  forged.writeUInt8(forged.readUInt8(forged.length - 1) ^ 1, forged.length - 1);
  await Promise.all(Array.from({ length: 4 }, () => assertFails(host.decrypt(forged), 'not-authentic')));
  assert.deepEqual(await host.decrypt(good), Buffer.alloc(50));
}

async function survivesLoss(host: Host): Promise<void> {
  bench.faulty.loseSessions();
  const value = Buffer.alloc(33, 3);
  assert.deepEqual(await host.decrypt(await host.encrypt(value)), value);
  await host.ready();
  assert.equal(host.token.report().process.restarts, 0);
}

const mostSessions = (): number => bench.faulty.counts().processes.at(-1)?.mostSessions ?? 0;

describe('sessions that only read are refused', () => {
  for (const refuseReadOnly of ['CKR_SESSION_READ_ONLY', 'CKR_FUNCTION_FAILED', 'CKR_GENERAL_ERROR', 0x80000001]) {
    test(`with ${refuseReadOnly}`, async () => {
      bench.faulty.control({ refuseReadOnly });
      const host = await bench.readyHost();
      await works(host);
      assert.ok(mostSessions() > 2, 'as many as without');
      await survivesLoss(host);
    });
  }

  test('and of those that write there is one', async () => {
    bench.faulty.control({ refuseReadOnly: 'CKR_SESSION_READ_ONLY', maxSessions: 1 });
    await works(await bench.readyHost());
    assert.equal(mostSessions(), 1);
  });
});

describe('a token with one session', () => {
  const ROWS: readonly { name: string; faults: Faults }[] = [
    { name: 'that says so', faults: { maxSessions: 1 } },
    { name: 'that does not say so', faults: { maxSessions: 1, hideMaxSessions: true } },
  ];
  for (const { name, faults } of ROWS) {
    test(`${name} serves, makes keys and proves`, async () => {
      bench.faulty.control(faults);
      const before = bench.faulty.counts().logins.length;
      const host = await bench.readyHost();
      await works(host);
      assert.equal(mostSessions(), 1);
      assert.equal(bench.faulty.counts().logins.length - before, 1, 'a failed operation does not log out');
      assert.equal(host.token.report().sessions?.limit, 1);
    });

    test(`${name} comes back after a loss, with one login more`, async () => {
      bench.faulty.control(faults);
      const host = await bench.readyHost();
      const before = bench.faulty.counts().logins.length;
      await survivesLoss(host);
      assert.equal(bench.faulty.counts().logins.length - before, 1);
    });

    test(`${name} and leaves failed operations open`, async () => {
      bench.faulty.control(faults);
      const host = await bench.readyHost();
      bench.faulty.control({
        ...faults,
        rules: [{ on: 'C_Encrypt', answer: 'CKR_DEVICE_ERROR', leaveOpen: true, times: 1 }],
      });
      await host.encrypt(Buffer.alloc(32));
      await host.ready();
      await host.encrypt(Buffer.alloc(32));
    });
  }

  test('gives others of its sessions later', { timeout: 60_000 }, async () => {
    bench.faulty.control({ maxSessions: 1, hideMaxSessions: true });
    const host = await bench.readyHost();
    bench.faulty.control({});
    const most = (): number => host.token.report().sessions?.limit ?? 0;
    for (const until = performance.now() + 30_000; most() === 1 && performance.now() < until;) {
      await Promise.all(Array.from({ length: 8 }, () => host.encrypt(Buffer.alloc(32))));
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    assert.equal(most(), 8);
    await works(host);
  });
});
