/** The data key that serves many values: when a new one is made, by whom, and what becomes of the old one. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, test } from 'node:test';
import { CurrentDataKey, type NewDataKey, type ReuseLimits } from '../../src/cipher/current-data-key.ts';
import { sealedDataKey } from '../../src/cipher/data-key.ts';
import type { SealingKey } from '../../src/cipher/index.ts';
import type { Call } from '../../src/call/index.ts';
import { KmsError } from '../../src/errors/index.ts';
import { callFor, newKeyId, sealingKey, turn } from './support/calls.ts';

const LIMITS: ReuseLimits = { maxAgeMs: 60_000, maxValues: 1_000_000, maxBytes: 2 ** 36 };
const OLD = sealingKey(newKeyId());
const NEW = sealingKey(newKeyId());
const all: CurrentDataKey[] = [];

afterEach(() => {
  for (const current of all.splice(0)) current.close();
});

class Maker {
  readonly made: { readonly keyId: string; readonly dataKey: Buffer }[] = [];
  readonly gates = new Map<string, Promise<void>>();
  calls = 0;
  failure: Error | undefined;
  /** Takes no turn of the event loop, as no real token can. */
  immediate = false;

  readonly make = async ({ keyId }: SealingKey, call: Call): Promise<NewDataKey> => {
    this.calls++;
    await this.gates.get(keyId);
    if (!this.immediate) await turn();
    call.signal.throwIfAborted();
    if (this.failure !== undefined) throw this.failure;
    const dataKey = randomBytes(32);
    this.made.push({ keyId, dataKey });
    return { dataKey, sealed: sealedDataKey(keyId, 1, randomBytes(60)) };
  };

  hold({ keyId }: SealingKey): () => void {
    let release = (): void => undefined;
    this.gates.set(keyId, new Promise((resolve) => (release = resolve)));
    return release;
  }
}

function currentOf(limits: Partial<ReuseLimits> = {}): { current: CurrentDataKey; maker: Maker } {
  const maker = new Maker();
  const current = new CurrentDataKey(maker.make);
  current.configure({ ...LIMITS, ...limits });
  all.push(current);
  return { current, maker };
}

const isZero = (buffer: Buffer): boolean => buffer.every((byte) => byte === 0);

/** Uses it once. @returns which data key it was, as of that moment: never zeros. */
async function use(current: CurrentDataKey, key = OLD, bytes = 10, call: Call = callFor()): Promise<string> {
  return current.use(key, bytes, call, (dataKey, sealed) => {
    assert.ok(!isZero(dataKey), 'a value would be encrypted with zeros');
    assert.equal(sealed.keyId, key.keyId);
    return dataKey.toString('hex');
  });
}

const useAtOnce = (count: number, current: CurrentDataKey, key = OLD): Promise<string[]> =>
  Promise.all(Array.from({ length: count }, () => use(current, key)));

describe('one data key', () => {
  test('is made at the first use, by one call for all who come together', async () => {
    const { current, maker } = currentOf();
    assert.equal(current.usableUntil(), undefined);
    const used = await useAtOnce(64, current);
    assert.equal(new Set(used).size, 1);
    await useAtOnce(64, current);
    assert.equal(maker.calls, 1);
    const until = Date.parse(current.usableUntil() ?? '') - Date.now();
    assert.ok(until > 55_000 && until <= 60_100, String(until));
  });

  test('serves so many values and no more, however many calls reach the limit at once', async () => {
    const { current, maker } = currentOf({ maxValues: 10 });
    const counts = new Map<string, number>();
    for (const name of await useAtOnce(64, current)) counts.set(name, (counts.get(name) ?? 0) + 1);
    assert.deepEqual([...counts.values()].sort(), [10, 10, 10, 10, 10, 10, 4]);
    assert.equal(maker.calls, 7);
    await turn();
    assert.equal(maker.made.filter(({ dataKey }) => !isZero(dataKey)).length, 1, 'all but the last are zeroed');
  });

  test('serves so many bytes, and a first value of any size', async () => {
    const { current, maker } = currentOf({ maxBytes: 100 });
    const names: string[] = [];
    for (const bytes of [60, 40, 1, 99, 100, 500, 1]) names.push(await use(current, OLD, bytes));
    const numbers = names.map((name) => [...new Set(names)].indexOf(name));
    assert.deepEqual(numbers, [0, 0, 1, 1, 2, 3, 4]);
    assert.equal(maker.calls, 5);
  });

  test('is never used after it was zeroed, whichever values do not fit', async () => {
    for (const immediate of [false, true]) {
      const { current, maker } = currentOf({ maxBytes: 100, maxValues: 50 });
      maker.immediate = immediate;
      const sizes = Array.from({ length: 300 }, (_, index) => (index * 37) % 101);
      await Promise.all(sizes.map((bytes) => use(current, OLD, bytes)));
    }
  });

  test('is replaced at its age, and zeroed then even if nobody encrypts', async () => {
    const { current, maker } = currentOf({ maxAgeMs: 150 });
    const first = await use(current);
    await sleep(400);
    assert.ok(maker.made[0] !== undefined && isZero(maker.made[0].dataKey));
    assert.equal(current.usable, false);
    assert.equal(current.usableUntil(), undefined);
    assert.notEqual(await use(current), first);
    assert.equal(maker.calls, 2);
  });

  test('is not used past its age when the process was too busy to zero it in time', async () => {
    const { current, maker } = currentOf({ maxAgeMs: 50 });
    await use(current);
    const late = performance.now() + 80;
    while (performance.now() < late) randomBytes(1024);
    await use(current);
    assert.equal(maker.calls, 2);
  });

  test('past half its age has a successor made, for which nobody waits', async () => {
    const { current, maker } = currentOf({ maxAgeMs: 1_000 });
    const first = await use(current);
    await sleep(550);
    const release = maker.hold(OLD);
    for (let n = 0; n < 5; n++) assert.equal(await use(current), first);
    assert.equal(maker.calls, 2);
    release();
    await turn();
    await turn();
    const second = await use(current);
    assert.notEqual(second, first);
    assert.ok(maker.made[0] !== undefined && isZero(maker.made[0].dataKey));
    assert.equal(maker.calls, 2);
  });

  test('serves out its age when no successor can be made', async () => {
    const { current, maker } = currentOf({ maxAgeMs: 1_000 });
    const first = await use(current);
    maker.failure = new KmsError('token-away', 'away');
    await sleep(550);
    for (let n = 0; n < 5; n++) {
      assert.equal(await use(current), first);
      await turn();
    }
    assert.equal(maker.calls, 2, 'nor is the HSM asked for one at every call');
    await sleep(500);
    await assert.rejects(use(current), { kind: 'token-away' });
  });

  test('takes other limits while it serves', async () => {
    const { current, maker } = currentOf();
    await use(current);
    await use(current);
    current.configure({ ...LIMITS, maxValues: 2 });
    assert.equal(current.usable, false);
    await use(current);
    assert.equal(maker.calls, 2);
    current.configure({ ...LIMITS, maxAgeMs: 100 });
    await sleep(300);
    assert.ok(maker.made.every(({ dataKey }) => isZero(dataKey)));
  });
});

/** Until `condition` holds; fails after 10 s. */
async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < end, 'it has not come');
    await sleep(10);
  }
}

describe('a data key that is kept ready', () => {
  test('is made before the first value', async () => {
    const { current, maker } = currentOf();
    current.keepReady(OLD);
    await until(() => current.usable);
    await use(current);
    assert.equal(maker.calls, 1);
  });

  test('is renewed at half its age, though no value comes', async () => {
    const { current, maker } = currentOf({ maxAgeMs: 400 });
    current.keepReady(OLD);
    await until(() => maker.made.length >= 3);
    assert.ok(current.usable);
  });

  test('is asked for again until the HSM gives one, and the old one serves meanwhile', async () => {
    const { current, maker } = currentOf({ maxAgeMs: 60_000 });
    maker.failure = new KmsError('token-away', 'away');
    current.keepReady(OLD);
    await until(() => maker.calls >= 2);
    assert.equal(current.usable, false);
    maker.failure = undefined;
    await until(() => current.usable);
  });

  test('is made for the key that encrypts next', async () => {
    const { current, maker } = currentOf();
    current.keepReady(OLD);
    await until(() => current.usable);
    current.keepReady(NEW);
    await until(() => maker.made.length === 2);
    assert.equal(maker.made[1]?.keyId, NEW.keyId);
  });

  test('is not asked for any more once it is closed', async () => {
    const { current, maker } = currentOf({ maxAgeMs: 100 });
    current.keepReady(OLD);
    await until(() => current.usable);
    current.configure(undefined);
    await turn();
    const { calls } = maker;
    await sleep(300);
    assert.equal(maker.calls, calls);
  });
});

test('a jump of the wall clock by more than a minute drops the data key', async (t) => {
  const { current, maker } = currentOf();
  const before = await use(current);
  const now = Date.now.bind(Date);
  t.mock.method(Date, 'now', () => now() + 59_000);
  assert.equal(await use(current), before);
  t.mock.method(Date, 'now', () => now() + 61_000);
  assert.equal(current.usable, false);
  assert.notEqual(await use(current), before);
  assert.ok(isZero(maker.made[0]?.dataKey ?? Buffer.of(1)));
});

describe('a rotation', () => {
  test('makes a new data key and zeroes the old one', async () => {
    const { current, maker } = currentOf();
    await use(current, OLD);
    await use(current, NEW);
    assert.deepEqual(
      maker.made.map(({ keyId }) => keyId),
      [OLD.keyId, NEW.keyId],
    );
    assert.ok(maker.made[0] !== undefined && isZero(maker.made[0].dataKey));
    assert.equal(maker.calls, 2);
  });

  test('in the middle of making one serves both sides and keeps the new', async () => {
    for (const order of [
      [OLD, NEW],
      [NEW, OLD],
    ]) {
      const { current, maker } = currentOf();
      const releases = new Map([OLD, NEW].map((key) => [key, maker.hold(key)]));
      const before = useAtOnce(8, current, OLD);
      await turn();
      const after = useAtOnce(8, current, NEW);
      await turn();
      for (const key of order) {
        releases.get(key)?.();
        await turn();
        await turn();
      }
      assert.equal(new Set(await before).size, 1);
      assert.equal(new Set(await after).size, 1);
      assert.equal(maker.calls, 2);
      await turn();
      const [kept] = maker.made.filter(({ dataKey }) => !isZero(dataKey));
      assert.equal(kept?.keyId, NEW.keyId, 'the old one is zeroed, whenever it comes');
      await use(current, NEW);
      assert.equal(maker.calls, 2);
    }
  });

  test('that retires a key takes its data key along, also one under way', async () => {
    const { current, maker } = currentOf();
    await use(current, OLD);
    current.keepOnly(new Set([OLD.keyId, NEW.keyId]));
    assert.equal(current.usable, true);
    current.keepOnly(new Set([NEW.keyId]));
    assert.equal(current.usable, false);
    const late = use(current, OLD);
    await late;
    await turn();
    assert.equal(current.usable, false);
    assert.ok(maker.made.every(({ dataKey }) => isZero(dataKey)));
  });
});

describe('switched off', () => {
  test('it keeps nothing, and who is on the way gets through', async () => {
    const { current, maker } = currentOf();
    const release = maker.hold(OLD);
    const underWay = useAtOnce(8, current);
    await turn();
    current.configure(undefined);
    release();
    assert.equal(new Set(await underWay).size, 1);
    await turn();
    assert.equal(current.usable, false);
    assert.ok(maker.made.every(({ dataKey }) => isZero(dataKey)));
    current.configure({ ...LIMITS, maxValues: 1 });
    const others = useAtOnce(4, current);
    await turn();
    current.configure(undefined);
    assert.equal(new Set(await others).size, 4);
    await turn();
    assert.ok(
      maker.made.every(({ dataKey }) => isZero(dataKey)),
      'also those made after it was switched off',
    );
    current.configure(LIMITS);
    await use(current);
    assert.equal(current.usable, true);
    const last = maker.made.at(-1);
    current.configure(undefined);
    assert.ok(last !== undefined && isZero(last.dataKey));
  });
});

describe('callers', () => {
  test('get the failure of making one, and the next one tries anew', async () => {
    const { current, maker } = currentOf();
    maker.failure = new KmsError('token-away', 'away');
    const answers = await Promise.allSettled(Array.from({ length: 8 }, () => use(current)));
    assert.ok(answers.every(({ status }) => status === 'rejected'));
    assert.equal(maker.calls, 1);
    maker.failure = undefined;
    await use(current);
    assert.equal(maker.calls, 2);
  });

  test('who leave take nobody else with them', async () => {
    const { current, maker } = currentOf();
    const release = maker.hold(OLD);
    const call = callFor();
    const first = assert.rejects(use(current, OLD, 10, call), { kind: 'cancelled' });
    const second = use(current);
    call.cancel();
    await first;
    release();
    await second;
    assert.equal(maker.calls, 1);
  });

  test('who have time left do not share the end of one who has none', async () => {
    const { current, maker } = currentOf();
    const release = maker.hold(OLD);
    const hurried = assert.rejects(use(current, OLD, 10, callFor(60)), { kind: 'deadline' });
    const patient = use(current, OLD, 10, callFor(5_000));
    await hurried;
    await sleep(20);
    release();
    await patient;
    assert.equal(maker.calls, 2);
  });
});
