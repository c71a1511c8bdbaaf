/** Parts of the plugin process's side that need no HSM: suspects, pauses after crashes, what is left of a vendor's words. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ownCall } from '../../src/call/index.ts';
import { Crashes } from '../../src/token/client/crashes.ts';
import { scrub } from '../../src/token/client/output-capture.ts';
import { Suspects } from '../../src/token/client/suspects.ts';
import { toCkrError } from '../../src/token/pkcs11/ckr.ts';

describe('suspects', () => {
  test('go one at a time, and others wait for them', async () => {
    const suspects = new Suspects();
    const order: string[] = [];
    const work = (name: string) => async () => {
      order.push(`${name} begins`);
      await sleep(20);
      order.push(`${name} ends`);
    };
    const waiting = [suspects.alone(work('first')), suspects.alone(work('second'))];
    await suspects.clear(ownCall(1_000));
    assert.deepEqual(order, ['first begins', 'first ends', 'second begins', 'second ends']);
    await Promise.all(waiting);
  });

  test('that fail do not stop the next', async () => {
    const suspects = new Suspects();
    const first = suspects.alone(() => Promise.reject(new Error('crashed')));
    const second = suspects.alone(() => Promise.resolve('fine'));
    await assert.rejects(first, /crashed/);
    assert.equal(await second, 'fine');
  });

  test('that hang stop others for a second only', async () => {
    const suspects = new Suspects();
    void suspects.alone(() => new Promise(() => undefined));
    const started = performance.now();
    await suspects.clear(ownCall(5_000));
    assert.ok(performance.now() - started >= 990);
  });
});

test('pauses after crashes grow, and shrink again a minute later', () => {
  const crashes = new Crashes();
  const pauses = Array.from({ length: 12 }, (_, index) => {
    crashes.add(1_000_000 + index);
    return crashes.pause(1_000_000 + index);
  });
  assert.deepEqual(
    pauses.slice(0, 5).map(({ away }) => away),
    [false, false, false, true, true],
  );
  assert.equal(pauses[0]?.ms, 0);
  assert.ok((pauses[11]?.ms ?? 0) >= 22_500 && (pauses[11]?.ms ?? 0) <= 37_500);
  assert.equal(crashes.pause(1_061_000).ms, 0);
});

describe('what a vendor’s library printed', () => {
  for (const secret of [
    'C_Login(hSession=1, userType=1, pPin="4711", ulPinLen=4)',
    'partition password: correct horse',
    'user 1234567 logged in',
    'key=00 11 22 33 44 55 66 77 88 99 aa bb',
    'key=0x00112233445566778899aabb',
    'blob AAECAwQFBgcICQoLDA0ODxAREhM=',
  ]) {
    test(`"${secret.slice(0, 20)}…" loses what could be a secret`, () => {
      assert.doesNotMatch(scrub(secret), /4711|horse|1234567|22 33|2233|AAECAw/);
    });
  }

  test('keeps what helps', () => {
    const line = 'ERROR(12): cannot connect to 10.0.0.7: error 0x30, retry 3 of 5';
    assert.equal(scrub(line), line);
  });
});

describe('return values', () => {
  for (const [thrown, ckr] of [
    [{ message: 'CKR_DEVICE_ERROR:48', code: 48 }, 'CKR_DEVICE_ERROR'],
    [{ message: 'CKR_DEVICE_ERROR:48' }, 'CKR_DEVICE_ERROR'],
    [{ message: 'CKR_VENDOR_DEFINED:66', code: 0x42 }, 'CKR_AEAD_DECRYPT_FAILED'],
    [{ message: 'CKR_VENDOR_DEFINED:2147483939', code: 0x80000123 }, 'CKR_0x80000123'],
  ] as const) {
    test(ckr, () => assert.equal(toCkrError('C_Encrypt', thrown).ckr, ckr));
  }
});
