/** What holds for every value and every damage. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { Cipher, parseCiphertext } from '../../src/cipher/index.ts';
import type { SchemeConfig } from '../../src/config/index.ts';
import { KmsError } from '../../src/errors/index.ts';
import { callFor, DIRECT, envelope, newKeyId, sealingKey } from './support/calls.ts';
import { FakeToken } from './support/fake-token.ts';

const keyId = newKeyId();
const token = new FakeToken({ [keyId]: { aes: randomBytes(32), mac: randomBytes(32) } });
const SCHEMES: readonly SchemeConfig[] = [DIRECT, envelope(), envelope({ dataKey: 'per-value', cacheSize: 3 })];

const cipherFor = (scheme: SchemeConfig): Cipher => new Cipher(token.asToken(), scheme);
const values = fc.uint8Array({ maxLength: 3000 }).map((bytes) => Buffer.from(bytes));
const tokenSchemes = fc.constantFrom(1, 2, 3);

const openWith = (cipher: Cipher, bytes: Buffer): Promise<Buffer> => {
  const parsed = parseCiphertext(bytes);
  assert.equal(parsed.keyId, keyId, 'another key id finds no key');
  return cipher.open(parsed, callFor());
};

test('every value comes back, whatever scheme made it and whatever scheme reads it', async () => {
  await fc.assert(
    fc.asyncProperty(
      values,
      tokenSchemes,
      fc.constantFrom(...SCHEMES),
      fc.constantFrom(...SCHEMES),
      async (value, scheme, written, read) => {
        const writer = cipherFor(written);
        const reader = cipherFor(read);
        const bytes = await writer.seal(sealingKey(keyId, { scheme }), value, callFor());
        assert.equal(bytes[9], written.name === 'direct' ? scheme : 4);
        assert.ok(bytes.length <= value.length + 535);
        assert.deepEqual(await openWith(reader, bytes), value);
        assert.deepEqual(await openWith(reader, bytes), value);
        writer.close();
        reader.close();
      },
    ),
  );
});

test('no truncation, flipped bit or trailing byte is opened, with the data key cached or not', async () => {
  const damage = fc.oneof(
    fc.record({ kind: fc.constant('cut' as const), at: fc.nat() }),
    fc.record({ kind: fc.constant('flip' as const), at: fc.nat() }),
    fc.record({ kind: fc.constant('append' as const), at: fc.nat(255) }),
  );
  const changed = (bytes: Buffer, { kind, at }: { kind: 'cut' | 'flip' | 'append'; at: number }): Buffer => {
    if (kind === 'append') return Buffer.concat([bytes, Buffer.of(at)]);
    if (kind === 'cut') return bytes.subarray(0, at % bytes.length);
    const copy = Buffer.from(bytes);
    const bit = at % (copy.length * 8);
    copy.writeUInt8(copy.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    return copy;
  };
  await fc.assert(
    fc.asyncProperty(
      values,
      tokenSchemes,
      fc.constantFrom(...SCHEMES),
      fc.boolean(),
      damage,
      async (value, scheme, config, warm, what) => {
        const cipher = cipherFor(config);
        const bytes = await cipher.seal(sealingKey(keyId, { scheme }), value, callFor());
        if (warm) await openWith(cipher, bytes);
        await assert.rejects(
          async () => openWith(cipher, changed(bytes, what)),
          (error) => {
            if (error instanceof assert.AssertionError) return true;
            assert.ok(error instanceof KmsError, String(error));
            return ['foreign-ciphertext', 'malformed-ciphertext', 'unknown-format', 'not-authentic'].includes(
              error.kind,
            );
          },
        );
        assert.deepEqual(await openWith(cipher, bytes), value, 'the true one opens still');
        cipher.close();
      },
    ),
    { numRuns: 400 },
  );
});

test('no two ciphertexts have the same IV, and none shows its value', async () => {
  for (const scheme of SCHEMES) {
    const cipher = cipherFor(scheme);
    const value = randomBytes(64);
    const seen = new Set<string>();
    for (let n = 0; n < 500; n++) {
      const bytes = await cipher.seal(sealingKey(keyId), value, callFor());
      const ivAt = bytes[9] === 4 ? 26 + 3 + 60 : 26;
      seen.add(bytes.toString('hex', ivAt, ivAt + 12));
      assert.equal(bytes.indexOf(value.subarray(0, 8)), -1);
    }
    assert.equal(seen.size, 500);
    cipher.close();
  }
});

test('bytes that are not ours are refused without an exception of another kind', () => {
  const ours = fc
    .tuple(
      fc.constantFrom(0, 1, 2),
      fc.constantFrom(0, 1, 2, 3, 4, 5, 255),
      fc.uint8Array({ maxLength: 200 }),
      fc.boolean(),
    )
    .map(([version, scheme, rest, whole]) =>
      whole
        ? Buffer.from([0x8b, 0x48, 0x53, 0x4d, 0x4b, 0x4d, 0x53, 0x0a, version, scheme, ...rest])
        : Buffer.from(rest),
    );
  fc.assert(
    fc.property(ours, (bytes) => {
      try {
        const { header, body, scheme, envelope: inner } = parseCiphertext(bytes);
        assert.equal(header.length + body.length, bytes.length);
        assert.equal(inner !== undefined, scheme === 4);
      } catch (error) {
        assert.ok(error instanceof KmsError, String(error));
      }
    }),
    { numRuns: 2000 },
  );
});
