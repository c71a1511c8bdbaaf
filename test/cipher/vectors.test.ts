/** The fixed vectors, of which the second implementation in Go makes the same bytes. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Cipher, parseCiphertext } from '../../src/cipher/index.ts';
import { dataKeyAssociatedData, openValue, sealedPart } from '../../src/cipher/data-key.ts';
import { KmsError } from '../../src/errors/index.ts';
import { callFor, DIRECT, envelope } from './support/calls.ts';
import { tokenOfVectors, unhex, VECTORS } from './support/vectors.ts';

describe('every vector', () => {
  for (const scheme of [DIRECT, envelope(), envelope({ dataKey: 'per-value', cacheTtlMs: 0 })]) {
    test(`opens with scheme ${scheme.name} ${scheme.envelope?.dataKey ?? ''}`, async () => {
      const cipher = new Cipher(tokenOfVectors().asToken(), scheme);
      assert.ok(VECTORS.vectors.length >= 32);
      for (const { name, ciphertext, plaintext } of VECTORS.vectors) {
        // Twice: the second time a data key comes out of the cache, where there is one.
        for (const from of ['the token', 'the cache']) {
          const opened = await cipher.open(parseCiphertext(unhex(ciphertext)), callFor());
          assert.equal(opened.toString('hex'), plaintext, `${name}, data key from ${from}`);
        }
      }
      cipher.close();
    });
  }

  test('of scheme 4 opens in this process alone, given the data key', () => {
    const chosen = VECTORS.vectors.filter(({ scheme }) => scheme === 4);
    assert.equal(chosen.length, 12);
    for (const { name, ciphertext, plaintext, data_key: dataKey = '', inner_scheme: inner, iv } of chosen) {
      const { keyId, envelope: body } = parseCiphertext(unhex(ciphertext));
      assert.ok(body !== undefined && inner !== undefined);
      assert.equal(body.dataKey.innerScheme, inner, name);
      assert.equal(body.iv.toString('hex'), iv, name);
      assert.equal(openValue(unhex(dataKey), body)?.toString('hex'), plaintext, name);
      assert.ok(body.dataKey.prefix.subarray(0, 27).equals(dataKeyAssociatedData(keyId, inner)), name);
      assert.equal(sealedPart(body.dataKey).length, { 1: 60, 2: 64, 3: 96 }[inner], name);
    }
  });
});

describe('every refused ciphertext', () => {
  const retired = new Set(VECTORS.retired.map((key) => key.key_id));
  const listed = new Set(VECTORS.keys.map((key) => key.key_id));

  for (const { name, ciphertext, status, needs_key: needsKey = false } of VECTORS.refused) {
    if (needsKey) {
      test(`is refused by its key: ${name}`, async () => {
        const cipher = new Cipher(tokenOfVectors().asToken(), envelope());
        const parsed = parseCiphertext(unhex(ciphertext));
        await assert.rejects(cipher.open(parsed, callFor()), (error) => {
          assert.ok(error instanceof KmsError);
          assert.deepEqual([error.kind, error.status], ['not-authentic', status]);
          return true;
        });
        cipher.close();
      });
      continue;
    }
    test(`is refused without any key: ${name}`, () => {
      let refusal: string | undefined;
      try {
        const { keyId, scheme } = parseCiphertext(unhex(ciphertext));
        // What the keyring decides from its lists; scheme 3 needs a key with a second one.
        const canScheme = scheme !== 3 || VECTORS.keys.some((key) => key.key_id === keyId && key.mac !== undefined);
        if (retired.has(keyId)) refusal = 'INVALID_ARGUMENT';
        else if (!listed.has(keyId) || !canScheme) refusal = 'FAILED_PRECONDITION';
      } catch (error) {
        assert.ok(error instanceof KmsError, String(error));
        refusal = error.status;
      }
      assert.equal(refusal, status);
    });
  }
});
