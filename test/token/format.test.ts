/** Ciphertexts through a real token: round trips, truncations, flipped bits, random bytes, with the code of the table. */
import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { parseCiphertext } from '../../src/cipher/index.ts';
import { KmsError, type StatusName } from '../../src/errors/index.ts';
import { Bench, failure, type Host } from './support/installation.ts';

let bench: Bench;
/** A host for each scheme, on one token. */
const hosts = new Map<number, Host>();

before(async () => {
  bench = await Bench.make({ active: {}, both: {}, 'both-mac': { generic: true } });
  hosts.set(1, await bench.readyHost());
  const pair = { keys: [{ label: 'both', macLabel: 'both-mac' }], token: { profile: 'cbc-hmac' as const } };
  hosts.set(3, await bench.readyHost(pair));
  const envelope = {
    dataKey: 'per-value' as const,
    maxAgeMs: 1_000,
    maxValues: 1_000,
    maxBytes: 2 ** 30,
    cacheSize: 0,
    cacheTtlMs: 0,
  };
  hosts.set(4, await bench.readyHost({ scheme: { name: 'envelope', envelope } }));
});
after(() => bench.cleanup());

/** The host whose ciphertexts are of that scheme. */
function hostOf(scheme: number): Host {
  const host = hosts.get(scheme);
  assert.ok(host);
  return host;
}

for (const scheme of [1, 3, 4]) {
  describe(`scheme ${scheme}`, () => {
    test('round trips at every size, and never the same twice', async () => {
      const host = hostOf(scheme);
      await fc.assert(
        fc.asyncProperty(fc.uint8Array({ maxLength: scheme === 3 ? 1_024 : 3_000 }), async (bytes) => {
          const plaintext = Buffer.from(bytes);
          const ciphertext = await host.encrypt(plaintext);
          assert.equal(ciphertext[9], scheme);
          assert.ok(ciphertext.length - plaintext.length <= 535);
          assert.notDeepEqual(await host.encrypt(plaintext), ciphertext);
          assert.deepEqual(await host.decrypt(ciphertext), plaintext);
        }),
        { numRuns: 60 },
      );
      assert.ok((await host.encrypt(Buffer.alloc(32))).length <= 1_024);
    });

    test('every truncation, and every byte too many, is INVALID_ARGUMENT', async () => {
      const host = hostOf(scheme);
      const ciphertext = await host.encrypt(randomBytes(40));
      for (let length = 0; length < ciphertext.length; length++) {
        const error = await failure(host.decrypt(ciphertext.subarray(0, length)));
        assert.equal(error.status, 'INVALID_ARGUMENT', `${length} bytes: ${error.message}`);
      }
      const longer = await failure(host.decrypt(Buffer.concat([ciphertext, Buffer.alloc(1)])));
      assert.equal(longer.status, 'INVALID_ARGUMENT');
    });

    test('every flipped bit has the code of the table', async () => {
      const host = hostOf(scheme);
      const ciphertext = await host.encrypt(randomBytes(20));
      const seen: Record<string, number> = {};
      const attempts: Promise<void>[] = [];
      for (let bit = 0; bit < ciphertext.length * 8; bit++) {
        const at = bit >> 3;
        // Each byte before the body in full, of the body one bit each.
        if (at >= 29 && (bit & 7) !== at % 8) continue;
        const copy = Buffer.from(ciphertext);
        copy.writeUInt8(copy.readUInt8(at) ^ (1 << (bit & 7)), at);
        attempts.push(
          failure(host.decrypt(copy, 20_000)).then(({ kind, status }) => {
            assert.ok(expectedStatus(copy, at).includes(status), `bit ${bit}: ${kind}`);
            seen[kind] = (seen[kind] ?? 0) + 1;
          }),
        );
      }
      await Promise.all(attempts);
      assert.ok((seen['not-authentic'] ?? 0) > 20, JSON.stringify(seen));
    });
  });
}

/** What the table of docs/status-codes.md says of a ciphertext with one bit changed at this place. */
function expectedStatus(changed: Buffer, at: number): StatusName[] {
  if (at < 8) return ['INVALID_ARGUMENT'];
  if (at === 8) return ['FAILED_PRECONDITION'];
  // Another scheme that exists may have lengths that do not fit, a tag that is wrong, or need a key that is not there.
  if (at === 9)
    return (changed[9] ?? 0) >= 1 && (changed[9] ?? 0) <= 4
      ? ['INVALID_ARGUMENT', 'FAILED_PRECONDITION']
      : ['FAILED_PRECONDITION'];
  if (at < 26) return ['FAILED_PRECONDITION'];
  if (changed[9] === 4 && at === 26) return ['FAILED_PRECONDITION', 'INVALID_ARGUMENT'];
  return ['INVALID_ARGUMENT'];
}

test('100,000 random inputs are INVALID_ARGUMENT, and none crashes', async () => {
  const host = hostOf(1);
  for (let input = 0; input < 100_000; input++) {
    const bytes = randomBytes(randomInt(0, 200));
    if (input < 2_000) {
      assert.equal((await failure(host.decrypt(bytes))).status, 'INVALID_ARGUMENT');
      continue;
    }
    assert.throws(
      () => parseCiphertext(bytes),
      (error: unknown) => error instanceof KmsError && error.status === 'INVALID_ARGUMENT',
    );
  }
});

test('random bodies behind a good header are parsed or refused, and none crashes', () => {
  const header = Buffer.from('8b48534d4b4d530a01', 'hex');
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 255 }), fc.uint8Array({ maxLength: 300 }), (scheme, rest) => {
      const ciphertext = Buffer.concat([header, Buffer.of(scheme), Buffer.from(rest)]);
      try {
        const parsed = parseCiphertext(ciphertext);
        assert.equal(parsed.header.length + parsed.body.length, ciphertext.length);
      } catch (error) {
        assert.ok(error instanceof KmsError, String(error));
        assert.ok(['INVALID_ARGUMENT', 'FAILED_PRECONDITION'].includes(error.status));
      }
    }),
    { numRuns: 20_000 },
  );
});
