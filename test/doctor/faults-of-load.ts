/** Faults of clients that ask for much, and of an HSM that gives what no HSM may give. */
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { keyOf, type Raw } from '../config/fixtures.ts';
import type { Faults } from '../module/index.ts';
import type { Fault } from './fault.ts';
import { asClient, encrypted, readTen } from './faults-of-calls.ts';
import type { Place } from './place.ts';

const LUNA = { manufacturer: 'SafeNet', model: 'Luna K7' };

/** Encrypts ten values of that size, side by side; each fails or not, as the fault wants it. */
const encryptTen = (place: Place, bytes: number): Promise<number> =>
  asClient(place, async (client) => {
    const answers = await Promise.all(Array.from({ length: 10 }, () => client.encrypt(Buffer.alloc(bytes, 0x63))));
    return answers.filter(({ error }) => error !== undefined).length;
  });

/** Limits so low that one client reaches them. */
const withLimits = (limits: object) => (raw: Raw) => Object.assign(raw['limits'] as object, limits);

export const FAULTS_OF_LOAD: readonly Fault[] = [
  {
    seeded: 'a token whose user PIN was never set',
    check: 'login',
    names: /no user PIN/,
    mend: /set the user PIN with the HSM's own tool/,
    seed: async (place) => {
      await place.stop();
      place.faulty.control({
        tokenInfo: { clear: ['CKF_USER_PIN_INITIALIZED'] },
        rules: [{ on: 'C_Login', answer: 'CKR_USER_PIN_NOT_INITIALIZED' }],
      });
      place.start();
      await place.until(({ token }) => token.reason.includes('no user PIN'));
    },
    undo: (place) => place.faulty.control({}),
  },
  {
    seeded: 'an HSM whose IVs are zero',
    check: 'round trip',
    names: /INTERNAL: .*zero.*\[KMS-2007\]/,
    mend: /take the HSM out of use and call its vendor/,
    seed: async (place) => {
      place.faulty.control({ iv: { mode: 'luna-fips' }, tokenInfo: LUNA });
      await place.restart((raw) => (raw.token['profile'] = 'luna-fips'));
      await place.well();
      place.faulty.control({ iv: { mode: 'luna-fips', fault: 'zero' }, tokenInfo: LUNA });
    },
    undo: async (place) => {
      place.faulty.control({});
      await place.restart();
    },
  },
  {
    seeded: 'an HSM that decrypts nothing any more, and says that each value is at fault',
    check: 'key',
    names: /key-2026 \(active\): .*no profile fits this token \(gcm: C_Decrypt answered CKR_ENCRYPTED_DATA_INVALID\)/,
    mend: /see in the vendor's log why the HSM fails/,
    never: /key_id/,
    seed: async (place) => {
      await place.stop();
      place.faulty.control({ rules: [{ on: 'C_Decrypt', answer: 'CKR_ENCRYPTED_DATA_INVALID' }] });
      place.start();
      await place.until(({ health }) => health.reason.includes('no profile fits'));
    },
    undo: async (place) => {
      place.faulty.control({});
      await place.restart();
    },
  },
  {
    seeded: 'another key under the label of the active one, made in place of the one before',
    check: 'key',
    names: /replaced \(active\): .*is another one than this host knows under that label/,
    mend: /restore the key of before from the HSM's backup/,
    never: /keys create|choose/,
    seed: async (place) => {
      const { hsm } = place.installation;
      await hsm.makeKey('replaced');
      await place.reload((raw) => Object.assign(keyOf(raw, 0), { label: 'replaced' }));
      await place.until(({ keys, health }) => keys[0]?.label === 'replaced' && health.ok);
      await hsm.destroyKey('replaced');
      await hsm.makeKey('replaced');
      await place.newConnection();
      await place.until(({ health }) => health.reason.includes('is another one than'));
    },
    undo: (place) => place.reload(),
  },
  {
    seeded: 'large values that the HSM refuses to decrypt, its own test value too',
    check: 'health port',
    names: /readiness: the last call failed with KMS-2001/,
    mend: /failed calls has their codes.*the vendor's log says why/,
    seed: async (place) => {
      const ciphertext = await encrypted(place, 3_000);
      const rules: Faults['rules'] = [{ on: 'C_Decrypt', answer: 'CKR_ENCRYPTED_DATA_INVALID', minLength: 2_000 }];
      place.faulty.control({ rules });
      await readTen(place, ciphertext);
    },
    undo: async (place) => {
      place.faulty.control({});
      await place.restart();
    },
  },
  {
    seeded: 'an HSM that refuses lengths within its limits',
    check: 'failed calls',
    names: /^10 of \d+ calls .* failed with KMS-2006/,
    mend: /scheme: \{ name: envelope \} keeps values out of the HSM/,
    seed: async (place) => {
      place.faulty.control({ rules: [{ on: 'C_Encrypt', answer: 'CKR_DATA_LEN_RANGE', minLength: 1_000 }] });
      assert.equal(await encryptTen(place, 2_000), 10);
    },
    undo: async (place) => {
      place.faulty.control({});
      await place.restart();
    },
  },
  {
    seeded: 'values that are too large',
    check: 'failed calls',
    names: /^10 of \d+ calls .* failed with KMS-5004/,
    mend: /raise limits\.value/,
    seed: async (place) => assert.equal(await encryptTen(place, (1 << 20) + 1), 10),
    undo: (place) => place.restart(),
  },
  {
    seeded: 'more calls at once than the HSM can do, a minute ago',
    check: 'failed calls',
    harmless: true,
    names: /^\d of \d+ calls .* failed with KMS-5005/,
    mend: /compare latencies and queue/,
    seed: async (place) => {
      await place.restart(withLimits({ in_flight: 1, queued: 1 }));
      await place.well();
      place.faulty.control({ rules: [{ on: 'C_Encrypt', delayUs: 300_000 }] });
      assert.ok((await encryptTen(place, 20)) > 0);
      place.faulty.control({});
    },
    undo: (place) => place.restart(),
  },
  {
    seeded: 'an audit trail that cannot be written',
    check: 'last errors',
    harmless: true,
    names: /the audit trail cannot be written \(.*is no regular file\)/,
    mend: /docs\/errors\.md/,
    seed: async (place) => {
      mkdirSync(place.at('audit'), { mode: 0o700 });
      symlinkSync('/dev/full', place.at('audit/audit.log'));
      await place.restart((raw) => (raw['audit'] = { file: place.at('audit/audit.log') }));
      await place.well();
      await encryptTen(place, 20);
      await sleep(1_000);
    },
    undo: async (place) => {
      await place.restart();
      rmSync(place.at('audit'), { recursive: true });
    },
  },
];
