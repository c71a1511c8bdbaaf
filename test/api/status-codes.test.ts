import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { FAILURES, type FailureKind } from '../../src/errors/index.ts';

const page = readFileSync(path.join(import.meta.dirname, '../../docs/status-codes.md'), 'utf8');

test('docs/status-codes.md has the table of src/errors, row by row and in its order', () => {
  const written = page
    .split('\n')
    .filter((line) => line.startsWith('| KMS-'))
    .map((line) => line.split('|').map((cell) => cell.trim()))
    .map(([, code, kind, status, waits, meaning]) => ({
      code,
      kind,
      status,
      waits,
      explained: (meaning ?? '') !== '',
    }));
  const real = (Object.keys(FAILURES) as FailureKind[]).map((kind) => {
    const { code, status, waitable } = FAILURES[kind];
    return { code, kind, status, waits: waitable ? 'yes' : 'no', explained: true };
  });
  assert.deepEqual(written, real);
});

test('no code is given twice', () => {
  const codes = Object.values(FAILURES).map(({ code }) => code);
  assert.equal(new Set(codes).size, codes.length);
});
