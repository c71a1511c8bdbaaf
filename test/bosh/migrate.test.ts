/** docs/migrate.md: the numbers that operators type come from the code. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { HEADER_BYTES, MAGIC, sealedBytes } from '../../src/cipher/header.ts';
import { root } from './render.ts';

const read = (name: string): string => readFileSync(path.join(root, 'docs', name), 'utf8');
/** MySQL's BLOB, and what CredHub's internal provider adds to a value: AES-GCM's tag, the nonce has a column of its own. */
const BLOB_BYTES = 65_535;
const INTERNAL_BYTES = 16;

const TOKEN_SCHEMES = [1, 2, 3] as const;
const growths: ReadonlyMap<string, number> = new Map([
  ...TOKEN_SCHEMES.map((scheme): [string, number] => [
    String(scheme),
    HEADER_BYTES + Math.max(...Array.from({ length: 16 }, (_, bytes) => sealedBytes(scheme, bytes) - bytes)),
  ]),
  ...TOKEN_SCHEMES.map((inner): [string, number] => [
    `4 over ${inner}`,
    HEADER_BYTES + 1 + 2 + sealedBytes(inner, 32) + 12 + 16,
  ]),
  // The length of what Key Protect returned, which is at most 479 bytes.
  ['5', HEADER_BYTES + 2 + 479 + 12 + 16],
]);

test('the limit of the SELECT for MySQL follows from what each scheme adds', () => {
  const text = read('migrate.md');
  const rows = [...text.matchAll(/^\| scheme (\d(?: over \d)?)\b.*\| (?:\d+ to )?(\d+) \| (\d+) \|$/gm)];
  assert.deepEqual(
    rows.map(([, scheme, growth, limit]) => [scheme, Number(growth), Number(limit)]),
    [...growths].map(([scheme, growth]) => [scheme, growth, BLOB_BYTES + INTERNAL_BYTES - growth]),
  );
  const typed = Number(/LENGTH\(e\.encrypted_value\) > (\d+)/.exec(text)?.[1]);
  assert.ok(rows.some(([, , , limit]) => Number(limit) === typed));
  assert.ok(text.includes(`x'${MAGIC.toString('hex')}'`));
});

test('docs/ciphertext.md says the same of each scheme', () => {
  const rows = [...read('ciphertext.md').matchAll(/^\| (\d) \|.*\| ([^|]+) \|$/gm)].filter(([, , bytes = '']) =>
    /^\d[\d ,toradn]*$/.test(bytes),
  );
  assert.ok(rows.length >= 4);
  for (const [, scheme = '', bytes = ''] of rows) {
    const most = Math.max(...[...bytes.matchAll(/\d+/g)].map(([number]) => Number(number)));
    const all = [...growths].filter(([name]) => name.startsWith(scheme)).map(([, growth]) => growth);
    assert.equal(most, Math.max(...all), `scheme ${scheme}`);
  }
});
