/** One row for each profile: the token it is for, how it is chosen, what its ciphertexts look like. */
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { ownCall } from '../../src/call/index.ts';
import type { ProfileName } from '../../src/config/index.ts';
import type { Faults, IvSettings } from '../module/index.ts';
import { assertFails, Bench, type Wishes } from './support/installation.ts';
import { summary, underLoad } from './support/load.ts';

let bench: Bench;

before(async () => {
  bench = await Bench.make({ active: {}, both: {}, 'both-mac': { generic: true } });
});
afterEach(() => bench.reset());
after(() => bench.cleanup());

interface Row {
  readonly profile: Exclude<ProfileName, 'auto'>;
  /** What the token is like. */
  readonly faults: Faults;
  readonly scheme: 1 | 2 | 3;
  /** Bytes that a ciphertext of 100 bytes has beyond header and value. */
  readonly overhead: number;
}

const ROWS: readonly Row[] = [
  { profile: 'gcm', faults: {}, scheme: 1, overhead: 12 + 16 },
  {
    profile: 'cloudhsm',
    faults: {
      iv: { mode: 'cloudhsm' },
      tokenInfo: { manufacturer: 'Marvell Semiconductors, Inc.', model: 'NITROX-III' },
    },
    scheme: 1,
    overhead: 12 + 16,
  },
  {
    profile: 'luna-fips',
    faults: { iv: { mode: 'luna-fips' }, tokenInfo: { manufacturer: 'SafeNet', model: 'Luna K7' } },
    scheme: 2,
    overhead: 16 + 16,
  },
  {
    profile: 'nshield-fips',
    faults: { iv: { mode: 'nshield' }, tokenInfo: { manufacturer: 'nCipher Corp. Ltd', model: 'nShield' } },
    scheme: 1,
    overhead: 12 + 16,
  },
  { profile: 'cbc-hmac', faults: { hide: ['CKM_AES_GCM'] }, scheme: 3, overhead: 16 + 12 + 32 },
];

const wishesFor = ({ scheme }: Pick<Row, 'scheme'>, profile: ProfileName): Wishes => ({
  token: { profile },
  keys: [scheme === 3 ? { label: 'both', macLabel: 'both-mac' } : { label: 'active' }],
});

describe('profiles', () => {
  for (const row of ROWS) {
    for (const wanted of ['auto', row.profile] as const) {
      test(`${row.profile}, ${wanted === 'auto' ? 'chosen by itself' : 'configured'}`, async (t) => {
        bench.faulty.control(row.faults);
        const host = await bench.readyHost(wishesFor(row, wanted));
        assert.equal(host.keyring.health().reason, 'ok');
        assert.equal(host.token.report().profile, row.profile);
        const ciphertext = await host.encrypt(Buffer.alloc(100, 7));
        assert.equal(ciphertext[9], row.scheme);
        assert.equal(ciphertext.length, 26 + 100 + row.overhead);
        assert.deepEqual(await host.decrypt(ciphertext), Buffer.alloc(100, 7));
        const report = await underLoad(host, () => undefined, 300, 8);
        t.diagnostic(summary(t.name, report));
        assert.deepEqual(report.errors, {});
      });
    }
  }

  test('ciphertexts of one profile open under every other that shares the key', async () => {
    const keys = [{ label: 'both', macLabel: 'both-mac' }];
    const stateDir = bench.newStateDir();
    const made: Buffer[] = [];
    let written: string | undefined;
    for (const { faults, profile } of ROWS) {
      bench.faulty.control(faults);
      const host = await bench.readyHost({ keys, stateDir, token: { profile } });
      const { ciphertext, keyId } = await host.keyring.encrypt(Buffer.from(profile), ownCall(5_000));
      // The id that was written first goes on being written, whatever the profile would call for.
      assert.equal(keyId, (written ??= keyId));
      made.push(ciphertext);
      await host.close();
    }
    bench.faulty.control({});
    const host = await bench.readyHost({ keys, stateDir, token: { profile: 'gcm' } });
    for (const [index, ciphertext] of made.entries()) {
      assert.equal((await host.decrypt(ciphertext)).toString(), ROWS[index]?.profile);
    }
    assert.equal(new Set(made.map((ciphertext) => ciphertext[9])).size, 3);
  });

  test('a wrong one is refused before it is used: its IV would be zero', async () => {
    const host = await bench.readyHost({ token: { profile: 'cloudhsm' } });
    const error = await assertFails(host.encrypt(Buffer.alloc(10)), 'key-unable');
    assert.match(error.message, /no profile fits.*the IV of its ciphertexts is zero.*token\.profile/);
    assert.equal(host.keyring.health().ok, false);
  });

  test('one that the token refuses is told', async () => {
    const host = await bench.readyHost({ token: { profile: 'luna-fips' } });
    const error = await assertFails(host.encrypt(Buffer.alloc(10)), 'key-unable');
    assert.match(error.message, /luna-fips/);
  });

  const bad: readonly (readonly [string, IvSettings, ProfileName, RegExp])[] = [
    ['an IV of zeros', { mode: 'cloudhsm', fault: 'zero' }, 'cloudhsm', /zero/],
    ['the same IV each time', { mode: 'cloudhsm', fault: { pool: 1 } }, 'cloudhsm', /same IV twice/],
    ['an appended IV of zeros', { mode: 'luna-fips', fault: 'zero' }, 'luna-fips', /zero/],
    ['the same appended IV each time', { mode: 'luna-fips', fault: { pool: 1 } }, 'luna-fips', /same IV twice/],
    ['an IV cut short', { mode: 'luna-fips', fault: 'short' }, 'luna-fips', /IV of 12 bytes where 16 are due/],
    ['an nShield IV of zeros', { mode: 'nshield', fault: 'zero' }, 'nshield-fips', /zero/],
  ];
  for (const [name, iv, profile, why] of bad) {
    test(`an HSM that makes ${name} does not pass the self-test`, async () => {
      bench.faulty.control({ iv });
      const host = await bench.readyHost({ token: { profile } });
      const error = await assertFails(host.encrypt(Buffer.alloc(10)), 'key-unable');
      assert.match(error.message, why);
    });

    test(`an HSM that makes ${name} only later is stopped at once`, async () => {
      bench.faulty.control({ iv: { mode: iv.mode } });
      const host = await bench.readyHost({ token: { profile } });
      await host.encrypt(Buffer.alloc(10));
      bench.faulty.control({ iv });
      if (iv.fault !== 'zero' && iv.fault !== 'short') await host.encrypt(Buffer.alloc(10));
      for (let calls = 0; calls < 3; calls++) {
        const error = await assertFails(host.encrypt(Buffer.alloc(10)), 'iv-refused');
        assert.equal(error.status, 'INTERNAL');
      }
      bench.faulty.control({ iv: { mode: iv.mode } });
      await host.encrypt(Buffer.alloc(10));
    });
  }

  test('an IV that comes again within 1,024 is refused; a pool of 2,000 passes', async () => {
    const run = async (pool: number, encryptions: number): Promise<number> => {
      bench.faulty.control({ iv: { mode: 'cloudhsm', fault: { pool } } });
      const host = await bench.readyHost({ token: { profile: 'cloudhsm' } });
      let refused = 0;
      for (let done = 0; done < encryptions; done += 16) {
        const results = await Promise.allSettled(Array.from({ length: 16 }, () => host.encrypt(Buffer.alloc(1))));
        refused += results.filter(({ status }) => status === 'rejected').length;
      }
      await host.close();
      return refused;
    };
    assert.ok((await run(900, 1_000)) > 0);
    assert.equal(await run(2_000, 2_100), 0);
  });

  test('a moment of trouble in the self-test does not choose another profile', async () => {
    for (const answer of ['CKR_GENERAL_ERROR', 'CKR_DEVICE_ERROR']) {
      const { faults } = ROWS[1] ?? { faults: {} };
      // The first call after the ids were computed, which take one C_Encrypt each: the profile's first.
      bench.faulty.control({ ...faults, rules: [{ on: 'C_Encrypt', answer, skip: 1, times: 1 }] });
      const host = await bench.readyHost();
      assert.equal(host.token.report().profile, 'cloudhsm');
      await host.encrypt(Buffer.alloc(1));
      await host.close();
    }
  });
});

describe('a value that one call cannot take', () => {
  const cloud = ROWS[1]?.faults ?? {};

  test('goes by scheme 4 with a data key of its own, one HSM call all the same', async () => {
    bench.faulty.control(cloud);
    const host = await bench.readyHost();
    const at = await host.encrypt(Buffer.alloc(16_384));
    assert.equal(at[9], 1);
    const calls = (): number => bench.faulty.counts().calls.C_Encrypt;
    const before = calls();
    const above = await host.encrypt(Buffer.alloc(16_385, 3));
    assert.equal(calls() - before, 1);
    assert.equal(above[9], 4);
    assert.deepEqual(await host.decrypt(above), Buffer.alloc(16_385, 3));
    const large = await host.encrypt(Buffer.alloc(1_048_576, 5));
    assert.ok(large.length - 1_048_576 <= 535);
    assert.deepEqual(await host.decrypt(large), Buffer.alloc(1_048_576, 5));
    assert.deepEqual(await host.decrypt(at), Buffer.alloc(16_384));
  });

  test('is refused where the operator says so', async () => {
    bench.faulty.control(cloud);
    const host = await bench.readyHost({ scheme: { largeValues: 'refuse' } });
    await host.encrypt(Buffer.alloc(16_384));
    const error = await assertFails(host.encrypt(Buffer.alloc(16_385)), 'value-too-large');
    assert.equal(error.status, 'RESOURCE_EXHAUSTED');
  });

  test('whose limit the profile does not know is INTERNAL, with the mend', async () => {
    bench.faulty.control({ gcmLimit: 4_096 });
    const host = await bench.readyHost();
    await host.encrypt(Buffer.alloc(4_096));
    const error = await assertFails(host.encrypt(Buffer.alloc(4_097)), 'module-limit');
    assert.match(error.message, /CKR_DATA_LEN_RANGE.*token\.profile/);
    assert.equal(host.token.condition().state, 'ready');
  });

  test('has its data key checked for a repeated IV, too', async () => {
    bench.faulty.control(cloud);
    const host = await bench.readyHost();
    bench.faulty.control({ ...cloud, iv: { mode: 'cloudhsm', fault: 'zero' } });
    await assertFails(host.encrypt(Buffer.alloc(20_000)), 'iv-refused');
  });
});
