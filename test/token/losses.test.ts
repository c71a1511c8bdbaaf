/** What is lost and found again under load: sessions, login, objects, the token, the device. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test, type TestContext } from 'node:test';
import type { ProcessCounts } from '../module/index.ts';
import { Bench, type Host } from './support/installation.ts';
import { summary, underLoad } from './support/load.ts';

let bench: Bench;

before(async () => {
  bench = await Bench.make();
});
afterEach(() => bench.reset());
after(() => bench.cleanup());

/** A disturbance that callers must not notice other than by a delay. */
async function hidden(t: TestContext, host: Host, disturb: () => void | Promise<void>, afterMs = 1_500): Promise<void> {
  const report = await underLoad(host, disturb, afterMs);
  t.diagnostic(summary(t.name, report));
  assert.deepEqual(report.errors, {});
  const later = report.goodTimes.filter((at) => at > report.disturbedAt + afterMs / 2).length;
  assert.ok(later > 20, `${later} good answers afterwards`);
}

describe('a loss under load costs delay and no error', () => {
  test('sessions lost', async (t) => {
    await hidden(t, await bench.readyHost(), () => bench.faulty.loseSessions());
  });

  for (const code of ['CKR_SESSION_CLOSED', 'CKR_DEVICE_ERROR', 'CKR_GENERAL_ERROR', 'CKR_TOKEN_NOT_PRESENT']) {
    test(`sessions lost, seen as ${code}`, async (t) => {
      await hidden(t, await bench.readyHost(), () => bench.faulty.loseSessions(code));
    });
  }

  test('login lost', async (t) => {
    await hidden(t, await bench.readyHost(), () => bench.faulty.loseLogin());
    assert.equal(new Set(bench.faulty.counts().logins.map(({ answer }) => answer)).size, 1);
  });

  test('object handles stale', async (t) => {
    await hidden(t, await bench.readyHost(), () => bench.faulty.staleObjects());
  });

  test('token removed for a second', async (t) => {
    const host = await bench.readyHost();
    await hidden(
      t,
      host,
      () => {
        bench.faulty.control({ removed: {} });
        setTimeout(() => bench.faulty.control({}), 1_000);
      },
      3_000,
    );
  });

  test('token removed for a second, and seen again only after C_Finalize', async (t) => {
    const host = await bench.readyHost();
    await hidden(
      t,
      host,
      () => {
        bench.faulty.control({ removed: { untilInitialize: true } });
        setTimeout(() => bench.faulty.control({}), 1_000);
      },
      3_000,
    );
  });

  test('a module that is wedged until C_Finalize and C_Initialize', async (t) => {
    await hidden(t, await bench.readyHost(), () => bench.faulty.wedge('initialize'), 2_500);
  });

  test('a module that is wedged until a new process', async (t) => {
    await hidden(t, await bench.readyHost(), () => bench.faulty.wedge('new-process'), 4_000);
  });

  for (const forMs of [300, 1_000]) {
    test(`device error for ${forMs} ms`, async (t) => {
      const rules = [{ on: '*', answer: 'CKR_DEVICE_ERROR', forMs }] as const;
      await hidden(t, await bench.readyHost(), () => bench.faulty.control({ rules }), forMs + 2_000);
    });
  }
});

test('sessions that a device in trouble would not close are not kept beside their successors', async (t) => {
  const host = await bench.readyHost();
  // The tests before this one have left their processes in the counts; the last is this host's.
  const newest = (): ProcessCounts => {
    const last = bench.faulty.counts().processes.at(-1);
    assert.ok(last);
    return last;
  };
  await underLoad(host, () => undefined, 300);
  const before = newest();
  assert.ok(before.openSessions > 2, `${before.openSessions} sessions`);
  const report = await underLoad(
    host,
    () =>
      bench.faulty.control({
        rules: [
          { on: ['C_CloseSession', 'C_Finalize'], answer: 'CKR_DEVICE_ERROR' },
          // Less than the pauses between three attempts to connect, after which a new process would take over.
          { on: ['C_EncryptInit', 'C_DecryptInit', 'C_OpenSession'], answer: 'CKR_DEVICE_ERROR', forMs: 250 },
        ],
      }),
    1_500,
  );
  const later = newest();
  t.diagnostic(`${before.openSessions} sessions before, ${later.openSessions} after`);
  assert.deepEqual(report.errors, {});
  assert.equal(later.pid, before.pid, 'a new process would have proved nothing about the sessions of the old one');
  assert.ok(
    later.openSessions <= before.openSessions + 2,
    `${before.openSessions} before, ${later.openSessions} after`,
  );
});
