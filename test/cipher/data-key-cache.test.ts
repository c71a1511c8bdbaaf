/** Opened data keys: how long they live, who shares them, what is left of them. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, test } from 'node:test';
import { type Call, reasonOf } from '../../src/call/index.ts';
import { DataKeyCache, type CacheLimits } from '../../src/cipher/data-key-cache.ts';
import { sealedDataKey, type SealedDataKey } from '../../src/cipher/data-key.ts';
import { KmsError } from '../../src/errors/index.ts';
import { callFor, newKeyId, turn } from './support/calls.ts';

const KEY = newKeyId();
const OTHER_KEY = newKeyId();
const caches: DataKeyCache[] = [];

afterEach(() => {
  for (const cache of caches.splice(0)) cache.close();
});

function cacheOf(limits: Partial<CacheLimits> = {}): DataKeyCache {
  const cache = new DataKeyCache();
  cache.configure({ size: 100, ttlMs: 60_000, ...limits });
  caches.push(cache);
  return cache;
}

const sealed = (keyId = KEY, scheme: 1 | 2 | 3 = 1): SealedDataKey => sealedDataKey(keyId, scheme, randomBytes(60));

/** The HSM of these tests: gives out a buffer of its own each time. */
class Opener {
  readonly given: Buffer[] = [];
  calls = 0;
  gate: Promise<void> = Promise.resolve();
  failure: Error | undefined;
  readonly value: Buffer;

  constructor(value = randomBytes(32)) {
    this.value = value;
  }

  readonly open = async (): Promise<Buffer> => {
    this.calls++;
    await this.gate;
    await turn();
    if (this.failure !== undefined) throw this.failure;
    const buffer = Buffer.from(this.value);
    this.given.push(buffer);
    return buffer;
  };
}

const hex = (dataKey: Buffer): string => dataKey.toString('hex');
const isZero = (buffer: Buffer): boolean => buffer.every((byte) => byte === 0);
async function fitting<T>(use: Promise<{ readonly value?: T }>): Promise<T> {
  const { value } = await use;
  assert.ok(value !== undefined);
  return value;
}
const ask = (cache: DataKeyCache, what: SealedDataKey, hsm: Opener, call = callFor()): Promise<string> =>
  fitting(cache.use(what, call, hsm.open, hex));
/** The cache's own buffer of an entry. */
const kept = (cache: DataKeyCache, what: SealedDataKey): Promise<Buffer> =>
  fitting(
    cache.use(
      what,
      callFor(),
      () => Promise.reject(new Error('a miss')),
      (dataKey) => dataKey,
    ),
  );

describe('a data key', () => {
  test('is opened once and found from then on', async () => {
    const [cache, hsm, what] = [cacheOf(), new Opener(), sealed()];
    for (let n = 0; n < 5; n++) assert.equal(await ask(cache, what, hsm), hex(hsm.value));
    assert.deepEqual([hsm.calls, cache.hits, cache.misses, cache.size], [1, 4, 1, 1]);
  });

  test('is known by all of its sealed bytes, inner scheme and key id', async () => {
    const cache = cacheOf();
    const body = randomBytes(60);
    const flipped = Buffer.from(body);
    flipped.writeUInt8(flipped.readUInt8(59) ^ 1, 59);
    const all = [
      sealedDataKey(KEY, 1, body),
      sealedDataKey(KEY, 1, flipped),
      sealedDataKey(KEY, 2, body),
      sealedDataKey(OTHER_KEY, 1, body),
    ];
    const hsms = all.map(() => new Opener());
    for (const turnOf of [0, 1]) {
      for (const [index, what] of all.entries()) {
        const hsm = hsms[index];
        assert.ok(hsm !== undefined);
        assert.equal(await ask(cache, what, hsm), hex(hsm.value), `round ${turnOf}`);
        assert.equal(hsm.calls, 1);
      }
    }
  });

  test('that 64 calls miss at once costs one HSM call', async () => {
    for (const limits of [{}, { ttlMs: 0 }, { size: 0 }]) {
      const [cache, hsm, what] = [cacheOf(limits), new Opener(), sealed()];
      const answers = await Promise.all(Array.from({ length: 64 }, () => ask(cache, what, hsm)));
      assert.deepEqual(new Set(answers), new Set([hex(hsm.value)]));
      assert.equal(hsm.calls, 1);
      await turn();
      assert.ok(hsm.given.every(isZero), 'the buffer that the HSM gave is zeroed');
    }
  });

  test('is not kept with cache_ttl 0 or cache_size 0', async () => {
    for (const limits of [{ ttlMs: 0 }, { size: 0 }]) {
      const [cache, hsm, what] = [cacheOf(limits), new Opener(), sealed()];
      cache.put(what, hsm.value);
      for (let n = 0; n < 3; n++) await ask(cache, what, hsm);
      assert.deepEqual([hsm.calls, cache.size], [3, 0]);
      await turn();
      assert.ok(hsm.given.every(isZero));
    }
  });

  test('that was just made is there at once, by a copy', async () => {
    const [cache, what, made] = [cacheOf(), sealed(), randomBytes(32)];
    cache.put(what, made);
    const expected = hex(made);
    made.fill(0);
    assert.equal(hex(await kept(cache, what)), expected);
  });
});

describe('failures', () => {
  test('are given to all who wait, and never kept', async () => {
    const [cache, hsm, what] = [cacheOf(), new Opener(), sealed()];
    hsm.failure = new KmsError('token-away', 'away');
    const answers = await Promise.allSettled(Array.from({ length: 8 }, () => ask(cache, what, hsm)));
    assert.ok(answers.every(({ status }) => status === 'rejected'));
    assert.deepEqual([hsm.calls, cache.size], [1, 0]);
    hsm.failure = undefined;
    assert.equal(await ask(cache, what, hsm), hex(hsm.value));
    assert.equal(hsm.calls, 2);
  });

  test('of the value under a kept data key are judged with the data key opened anew', async () => {
    const [cache, hsm, what] = [cacheOf(), new Opener(), sealed()];
    await ask(cache, what, hsm);
    const { misfit } = await cache.use(what, callFor(), hsm.open, () => undefined);
    assert.match(misfit ?? '', /^[0-9a-f]{64}$/);
    assert.equal(hsm.calls, 2);
    // Memory that was damaged is mended by it.
    (await kept(cache, what)).writeUInt8(hsm.value.readUInt8(0) ^ 1, 0);
    const fits = (dataKey: Buffer): string | undefined => (dataKey.equals(hsm.value) ? hex(dataKey) : undefined);
    assert.equal(await fitting(cache.use(what, callFor(), hsm.open, fits)), hex(hsm.value));
    assert.equal(hsm.calls, 3);
    assert.equal(hex(await kept(cache, what)), hex(hsm.value));
  });

  test('that the HSM gave wrong is not kept', async () => {
    const [cache, liar, what] = [cacheOf(), new Opener(), sealed()];
    const { misfit, value } = await cache.use(what, callFor(), liar.open, () => undefined);
    assert.equal(value, undefined);
    assert.equal(misfit, createHash('sha256').update(liar.value).digest('hex'));
    assert.equal(cache.size, 0);
  });
});

describe('callers', () => {
  test('who leave take nobody else with them', async () => {
    const [cache, hsm, what] = [cacheOf(), new Opener(), sealed()];
    let release = (): void => undefined;
    hsm.gate = new Promise((resolve) => (release = resolve));
    const first = callFor();
    const firstAnswer = assert.rejects(ask(cache, what, hsm, first), { kind: 'cancelled' });
    const second = ask(cache, what, hsm);
    first.cancel();
    await firstAnswer;
    release();
    assert.equal(await second, hex(hsm.value));
    assert.equal(hsm.calls, 1);
  });

  test('who have time left try again when the time of the first one passed', async () => {
    const [cache, what] = [cacheOf(), sealed()];
    const value = randomBytes(32);
    let calls = 0;
    const open = (shared: Call): Promise<Buffer> => {
      // The first one hangs until its time is over.
      if (++calls > 1) return Promise.resolve(Buffer.from(value));
      return new Promise((_, reject) => {
        shared.signal.addEventListener('abort', () => reject(reasonOf(shared.signal)));
      });
    };
    const hurried = fitting(cache.use(what, callFor(80), open, hex));
    const patient = fitting(cache.use(what, callFor(5_000), open, hex));
    await assert.rejects(hurried, { kind: 'deadline' });
    assert.equal(await patient, hex(value));
    assert.equal(calls, 2);
  });
});

describe('an entry leaves', () => {
  test('at its age, counted from the first, whatever its use', async () => {
    const [cache, hsm, what] = [cacheOf({ ttlMs: 400 }), new Opener(), sealed()];
    await ask(cache, what, hsm);
    const buffer = await kept(cache, what);
    const end = performance.now() + 1_000;
    while (hsm.calls === 1) {
      assert.ok(performance.now() < end, 'uses prolong its life');
      await ask(cache, what, hsm);
      await sleep(20);
    }
    assert.ok(isZero(buffer));
  });

  test('at its age when nobody asks for it', async () => {
    const [cache, hsm, what] = [cacheOf({ ttlMs: 150 }), new Opener(), sealed()];
    await ask(cache, what, hsm);
    const buffer = await kept(cache, what);
    await sleep(600);
    assert.equal(cache.size, 0);
    assert.ok(isZero(buffer));
  });

  test('when there are too many: the one least used of late', async () => {
    const [cache, hsm] = [cacheOf({ size: 3 }), new Opener()];
    const all = [sealed(), sealed(), sealed(), sealed()];
    const [first, second, third, fourth] = all as [SealedDataKey, SealedDataKey, SealedDataKey, SealedDataKey];
    for (const what of [first, second, third]) await ask(cache, what, hsm);
    const firstBuffer = await kept(cache, first);
    const secondBuffer = await kept(cache, second);
    await ask(cache, first, hsm);
    await ask(cache, third, hsm);
    await ask(cache, fourth, hsm);
    assert.equal(cache.size, 3);
    assert.ok(isZero(secondBuffer));
    assert.ok(!isZero(firstBuffer));
  });

  test('when its key is retired, and a data key under way is not kept', async () => {
    const [cache, hsm, mine, other, late] = [cacheOf(), new Opener(), sealed(), sealed(OTHER_KEY), sealed(OTHER_KEY)];
    await ask(cache, mine, hsm);
    await ask(cache, other, hsm);
    const buffer = await kept(cache, other);
    const underWay = ask(cache, late, hsm);
    cache.keepOnly(new Set([KEY]));
    assert.ok(isZero(buffer));
    assert.equal(await underWay, hex(hsm.value), 'who asked before gets an answer');
    assert.equal(cache.size, 1);
    await kept(cache, mine);
    cache.keepOnly(new Set([KEY, OTHER_KEY]));
    await ask(cache, late, hsm);
    assert.equal(cache.size, 2, 'listed again, kept again');
  });

  test('when the limits change below it, and all of them at close', async () => {
    for (const change of [
      (cache: DataKeyCache) => cache.configure({ size: 100, ttlMs: 0 }),
      (cache: DataKeyCache) => cache.configure({ size: 0, ttlMs: 60_000 }),
      (cache: DataKeyCache) => cache.close(),
    ]) {
      const [cache, hsm, what] = [cacheOf(), new Opener(), sealed()];
      await ask(cache, what, hsm);
      const buffer = await kept(cache, what);
      const underWay = ask(cache, sealed(), hsm);
      change(cache);
      assert.equal(cache.size, 0);
      assert.ok(isZero(buffer));
      await underWay;
      assert.equal(cache.size, 0, 'nor is kept what was under way');
    }
    const [cache, hsm, what] = [cacheOf(), new Opener(), sealed()];
    await ask(cache, what, hsm);
    await sleep(60);
    cache.configure({ size: 100, ttlMs: 50 });
    assert.equal(cache.size, 0, 'a shorter age holds for what is there');
  });
});

test('memory of 10,000 entries, for the record', (t) => {
  const cache = cacheOf({ size: 10_000 });
  const total = (): number => {
    global.gc?.();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const before = total();
  for (let n = 0; n < 10_000; n++) cache.put(sealed(), randomBytes(32));
  const exact = global.gc === undefined ? ' and what is not collected yet (--expose-gc leaves it out)' : '';
  t.diagnostic(`10,000 cached data keys${exact}: ${((total() - before) / 2 ** 20).toFixed(1)} MiB`);
  for (let n = 0; n < 2_000; n++) cache.put(sealed(), randomBytes(32));
  assert.equal(cache.size, 10_000);
});
