import assert from 'node:assert/strict';
import { test } from 'node:test';
import { age, size } from '../../src/doctor/words.ts';

const GIB = 1024 ** 3;

test('sizes are in MiB, from 10 GiB on in GiB', () => {
  assert.equal(size(0), '0 MiB');
  assert.equal(size(255 * 1024 ** 2), '255 MiB');
  assert.equal(size(1.5 * GIB), '1536 MiB');
  assert.equal(size(10 * GIB - 1024 ** 2), '10239 MiB');
  assert.equal(size(10 * GIB), '10 GiB');
  assert.equal(size(73_602.2 * 1024 ** 2), '71.9 GiB');
});

test('a service that has just started is not up 0 of anything', () => {
  assert.deepEqual([0, 0.4, 42, 60, 7_199, 7_200, 172_799, 172_800].map(age), [
    '1 s', '1 s', '42 s', '1 min', '119 min', '2 h', '47 h', '2 d',
  ]); // prettier-ignore
});
