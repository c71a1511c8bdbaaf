import assert from 'node:assert/strict';
import { test } from 'node:test';
import { realModules } from './index.ts';
import { survey } from './survey/index.ts';
import type { Facts } from './survey/index.ts';

/** The answers to a wrong GCM tag after which a ciphertext may be called forged, some only with further proof. */
const wrongTag = /^CKR_(GENERAL_ERROR|ENCRYPTED_DATA_INVALID|AEAD_DECRYPT_FAILED)$/;
const badHandle = /^CKR_(KEY|OBJECT)_HANDLE_INVALID$/;

function gcm(facts: Facts): Record<string, string | RegExp> {
  if (facts['CKM_AES_GCM'] !== 'yes') return { 'GCM: 12-byte IV and AAD': 'CKR_MECHANISM_INVALID' };
  return {
    'GCM: 12-byte IV and AAD': 'ok',
    'GCM: last byte wrong': wrongTag,
    'GCM: AAD wrong': wrongTag,
    'GCM: another key': wrongTag,
    'GCM: the session after a failure': 'ok',
    'GCM: empty value, pointer': 'ok, then ok',
    'GCM: 65537 bytes': 'ok',
    'GCM: 1048577 bytes': 'ok',
  };
}

/** What the plugin builds on, whatever the module. docs/hsms.md has the rest of the table. */
const common: Readonly<Record<string, string | RegExp>> = {
  'AES key, CKA_ID': Buffer.from('0123456789abcdef').toString('hex'),
  'AES key, CKA_SENSITIVE': '01',
  'AES key, CKA_EXTRACTABLE': '00',
  'ECB: one block': 'ok',
  'CBC: one block with a zero IV, as ECB': 'ok',
  'CBC_PAD: the same bytes as CBC of a padded value': 'ok',
  'CBC: 65537 bytes': 'ok',
  'CBC_PAD: empty value, pointer': 'ok, then ok',
  'HMAC: sign and verify': '32 bytes, true',
  'HMAC: 4096 bytes': '32 bytes',
  '4 threads': 'ok',
  'C_Login when logged in': 'CKR_USER_ALREADY_LOGGED_IN',
  'session closed': 'CKR_SESSION_HANDLE_INVALID',
  'key handle unknown': badHandle,
  'key after C_Logout': /^CKR_(KEY_HANDLE_INVALID|OBJECT_HANDLE_INVALID|USER_NOT_LOGGED_IN)$/,
  'search after C_Logout': 'finds nothing',
  'wrong PIN': 'CKR_PIN_INCORRECT',
  'right PIN and a line feed': 'CKR_PIN_INCORRECT',
};

for (const [name, make] of Object.entries(realModules)) {
  test(`${name} does what the plugin builds on`, async (t) => {
    const hsm = await make();
    t.after(() => hsm.cleanup());
    const facts = await survey(hsm);
    t.diagnostic(JSON.stringify(facts));
    for (const [what, expected] of Object.entries({ ...common, ...gcm(facts) })) {
      const found = facts[what] ?? 'not surveyed';
      if (typeof expected === 'string') assert.equal(found, expected, what);
      else assert.match(found, expected, what);
    }
  });
}
