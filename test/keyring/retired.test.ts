/**
 * Retired key ids. INVALID_ARGUMENT for a value of ours makes CredHub start without it, so a retired id gets it only after
 * every listed key was found with its ids, and is none of theirs.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, afterEach, before, describe, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createApiServer } from '../../src/api/index.ts';
import { KmsClient, statusOf } from '../api/support/clients.ts';
import { listenerAt } from '../api/support/fixture.ts';
import { KeptLog } from '../api/support/log.ts';
import { assertFails, Bench, LIMITS, type Host } from '../token/support/installation.ts';

let bench: Bench;
let sealed: Buffer;
/** The id of "old", and of a key that was never on this token. */
let oldId: string;
const STRANGER = 'fe'.repeat(16);
let ofStranger: Buffer;

const SLOW_LOGIN = { rules: [{ on: 'C_Login', delayUs: 3_000_000 }] } as const;
const AWAY = { removed: {} } as const;
const BOTH = [{ label: 'active' }, { label: 'old' }] as const;

before(async () => {
  bench = await Bench.make({ active: {}, old: {} });
  const writer = await bench.readyHost({ keys: [{ label: 'old' }] });
  sealed = await writer.encrypt(Buffer.from('of old'));
  oldId = sealed.toString('hex', 10, 26);
  ofStranger = Buffer.from(sealed);
  ofStranger.write(STRANGER, 10, 'hex');
  await bench.reset();
});
afterEach(() => bench.reset());
after(() => bench.cleanup());

/** A listener in front of a host's keyring, and a client of it. */
async function listen(t: TestContext, host: Host, patienceMs: number): Promise<KmsClient> {
  const directory = mkdtempSync(path.join(tmpdir(), 'retired-'));
  const listener = listenerAt(path.join(directory, 'kms.sock'), { patienceMs });
  const observer = { finished: () => undefined };
  const { keyring, config } = host;
  const options = { listeners: [listener], limits: config.limits, keyring, log: new KeptLog(), version: '1', observer };
  const server = createApiServer(options);
  await server.open();
  const client = new KmsClient(path.join(directory, 'kms.sock'));
  t.after(async () => {
    client.close();
    await server.shutdown(1_000);
    rmSync(directory, { recursive: true, force: true });
  });
  return client;
}

describe('an id that is both listed and retired, with a state_dir that remembers nothing', () => {
  for (const [whose, patienceMs] of [
    ['a patient', 60_000],
    ['an impatient', 0],
  ] as const) {
    test(`opens on ${whose} connection, however long the first login takes`, async (t) => {
      bench.faulty.control(SLOW_LOGIN);
      const client = await listen(t, bench.host({ keys: BOTH, retired: [oldId] }), patienceMs);
      const answer = await client.decrypt(sealed);
      assert.equal(answer.response?.plain.toString(), 'of old', answer.error?.message);
    });
  }

  test('is FAILED_PRECONDITION while the HSM is away, at once or after patience', async (t) => {
    bench.faulty.control(AWAY);
    const host = bench.host({ keys: BOTH, retired: [oldId], limits: { hideMs: 300 } });
    await sleep(1_500);
    const impatient = await listen(t, host, 0);
    const patient = await listen(t, host, 2_000);
    assert.equal(statusOf(await impatient.decrypt(sealed)), 'FAILED_PRECONDITION');
    const started = performance.now();
    const answer = await patient.decrypt(sealed);
    assert.equal(statusOf(answer), 'FAILED_PRECONDITION');
    assert.match(answer.error?.details ?? '', /KMS-3008/);
    assert.ok(performance.now() - started > 1_000, 'it waited');
  });

  test('is FAILED_PRECONDITION where the token is there and the key is not', async () => {
    const host = await bench.readyHost({ keys: [{ label: 'active' }, { label: 'gone' }], retired: [oldId] });
    const error = await assertFails(host.decrypt(sealed), 'retired-undecided');
    assert.equal(error.status, 'FAILED_PRECONDITION');
    assert.match(error.message, /"gone"/);
    assert.equal(host.keyring.refusal(sealed), undefined);
  });

  test('is shown by status and keys list', async () => {
    const host = await bench.readyHost({ keys: BOTH, retired: [oldId] });
    assert.deepEqual(await host.decrypt(sealed), Buffer.from('of old'));
    assert.deepEqual(host.keyring.keys()[1]?.retired, [oldId]);
    assert.ok(host.keyring.warnings().some((warning) => warning.includes(oldId)));
    assert.ok(host.said('error').some((line) => line.includes('both listed and in retired_keys')));
  });

  test('is shown before the token is reached where key_id tells', () => {
    bench.faulty.control(AWAY);
    const host = bench.host({ keys: [{ label: 'active' }, { label: 'old', keyId: oldId }], retired: [oldId] });
    assert.deepEqual(host.keyring.keys()[1]?.retired, [oldId]);
  });
});

describe('an id that is retired only', () => {
  test('waits for the first search, and is refused after it, with the HSM away as well', async (t) => {
    bench.faulty.control(SLOW_LOGIN);
    const host = bench.host({ keys: BOTH, retired: [STRANGER], limits: { hideMs: 300 } });
    const client = await listen(t, host, 0);
    const started = performance.now();
    assert.equal(statusOf(await client.decrypt(ofStranger)), 'INVALID_ARGUMENT');
    assert.ok(performance.now() - started > 2_000, 'not before the login');
    bench.faulty.control(AWAY);
    while (host.token.condition().state === 'ready') {
      await host.token.probe({ deadline: performance.now() + 200, signal: AbortSignal.timeout(200) }).catch(() => 0);
    }
    assert.equal(statusOf(await client.decrypt(ofStranger)), 'INVALID_ARGUMENT');
  });

  test('waits while the check value of a listed key cannot be computed, unless key_id gives its id', async () => {
    const label = 'from-cka-id';
    await bench.hsm.makeKey(label, { id: Buffer.from('0123456789abcdef') });
    bench.faulty.control({ hide: ['CKM_AES_ECB', 'CKM_AES_CBC'] });
    const host = await bench.readyHost({ keys: [{ label }], retired: [STRANGER] });
    await assertFails(host.decrypt(ofStranger), 'retired-undecided');
    const keyId = host.keyring.keys()[0]?.found[0]?.keyIds[0] ?? '';
    const told = await bench.readyHost({ keys: [{ label, keyId }], retired: [STRANGER] });
    await assertFails(told.decrypt(ofStranger), 'key-retired');
  });

  test('that was seen under a listed label stays listed, on this host', async () => {
    const stateDir = bench.newStateDir();
    const label = 'replaced';
    await bench.hsm.makeKey(label);
    const first = await bench.readyHost({ keys: [{ label: 'active' }, { label }], stateDir });
    const retired = [first.keyring.keys()[1]?.found[0]?.keyIds[0] ?? ''];
    await first.close();
    await bench.hsm.destroyKey(label);
    await bench.hsm.makeKey(label);
    const value = Buffer.from(sealed);
    value.write(retired[0] ?? '', 10, 'hex');
    const host = await bench.readyHost({ keys: [{ label: 'active' }, { label }], retired, stateDir });
    await assertFails(host.decrypt(value), 'key-missing');
    // Memory of another label does not count.
    const without = await bench.readyHost({ keys: [{ label: 'active' }], retired, stateDir });
    await assertFails(without.decrypt(value), 'key-retired');
  });

  test('waits where the memory of this host is damaged', async () => {
    const stateDir = bench.newStateDir();
    writeFileSync(path.join(stateDir, 'key-ids.json'), '{');
    const host = await bench.readyHost({ retired: [STRANGER], stateDir });
    await assertFails(host.decrypt(ofStranger), 'retired-undecided');
  });

  test('waits for a label that a reload lists, until the token was searched for it', async () => {
    const host = await bench.readyHost({ retired: [oldId] });
    await assertFails(host.decrypt(sealed), 'key-retired');
    bench.faulty.control(AWAY);
    host.keyring.reload(bench.config({ keys: BOTH, retired: [oldId], limits: LIMITS }, host.stateDir));
    assert.equal(host.keyring.refusal(sealed), undefined);
    bench.faulty.control({});
    assert.deepEqual(await host.decrypt(sealed), Buffer.from('of old'));
  });
});
