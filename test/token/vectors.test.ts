/** The published test vectors, made by another implementation, open through keys of these bytes on a token. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Bench, failure, type Host } from './support/installation.ts';

interface Vectors {
  readonly keys: readonly { name: string; aes: string; mac?: string; key_id: string }[];
  readonly retired: readonly { name: string; key_id: string }[];
  readonly vectors: readonly { name: string; key: string; scheme: number; plaintext: string; ciphertext: string }[];
  readonly refused: readonly { name: string; ciphertext: string; status: string; needs_key?: boolean }[];
}

const vectors = JSON.parse(
  readFileSync(path.join(import.meta.dirname, '../vectors/ciphertext.json'), 'utf8'),
) as Vectors;

let bench: Bench;
let host: Host;

before(async () => {
  const bytes = (hex: string): Buffer => Buffer.from(hex, 'hex');
  bench = await Bench.make(
    Object.fromEntries(
      vectors.keys.flatMap(({ name, aes, mac }) => [
        [name, { value: bytes(aes) }],
        ...(mac === undefined ? [] : [[`${name}-mac`, { generic: true, value: bytes(mac) }] as const]),
      ]),
    ),
  );
  host = await bench.readyHost({
    keys: vectors.keys.map(({ name, aes, mac }) => ({
      label: name,
      size: (aes.length * 4) as 128 | 192 | 256,
      ...(mac === undefined ? {} : { macLabel: `${name}-mac` }),
    })),
    retired: vectors.retired.map(({ key_id }) => key_id),
  });
});
after(() => bench.cleanup());

test('key ids come out as published', () => {
  const found = host.keyring.keys().map(({ found: [key] }) => key?.keyIds ?? []);
  for (const [index, { key_id, name }] of vectors.keys.entries()) assert.ok(found[index]?.includes(key_id), name);
});

describe('vectors open', () => {
  for (const { name, plaintext, ciphertext } of vectors.vectors) {
    test(name, async () => {
      assert.equal((await host.decrypt(Buffer.from(ciphertext, 'hex'))).toString('hex'), plaintext);
    });
  }
});

describe('damaged vectors are refused', () => {
  for (const { name, ciphertext, status, needs_key } of vectors.refused) {
    const bytes = Buffer.from(ciphertext, 'hex');
    // This token's known answers have an IV of 12 bytes: they prove nothing of scheme 2, whose IV has 16.
    const isProvable = needs_key !== true || bytes[9] !== 2;
    const expected = isProvable ? status : 'FAILED_PRECONDITION';
    test(`${name}: ${expected}`, async () => {
      assert.equal((await failure(host.decrypt(bytes))).status, expected);
    });
  }
});
