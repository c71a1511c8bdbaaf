/**
 * Good ciphertexts on a module that lies, and forged ones on a module that does not, in great numbers. CredHub takes
 * INVALID_ARGUMENT as "not this key" and loses sight of every value, so no lie may ever lead to it; and nothing forged opens.
 *
 * In this process: the deciding code itself, at a speed that allows great numbers. The same decisions through a real token
 * process and PKCS#11 are in `proven.test.ts`, with fewer ciphertexts.
 */
import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { afterEach, before, describe, test, type TestContext } from 'node:test';
import { CallEnd, type Call } from '../../../src/call/index.ts';
import { Cipher, parseCiphertext } from '../../../src/cipher/index.ts';
import { toKmsError } from '../../../src/errors/index.ts';
import type { TokenScheme } from '../../../src/token/index.ts';
import { PROOF, type ProofRules } from '../../../src/token/process/judge.ts';
import { cbcHmacProfile } from '../../../src/token/profiles/cbc-hmac.ts';
import { gcmProfile } from '../../../src/token/profiles/gcm.ts';
import type { Profile } from '../../../src/token/profiles/index.ts';
import { lunaFipsProfile } from '../../../src/token/profiles/luna-fips.ts';
import { LyingToken, type Blindness, type Lie } from './lying-token.ts';

const PROFILES: Readonly<Record<TokenScheme, Profile>> = { 1: gcmProfile, 2: lunaFipsProfile, 3: cbcHmacProfile };
const SCHEMES = [1, 2, 3] as const;
const RATES = Array.from({ length: 99 }, (_, index) => (index + 1) / 100);
/** Longer than a token that failed is distrusted: each ciphertext meets one that has not failed lately, the worst case. */
const APART_MS = 6_000;
const NEVER: Call = { deadline: performance.now() + 1e9, signal: new CallEnd() };

let token: LyingToken;
before(async () => {
  token = await LyingToken.make();
});
afterEach(() => Object.assign(token.temper, { rate: 0, blind: undefined }));

/** A ciphertext with the cipher that opens it on this test's token. */
interface Sample {
  readonly ciphertext: Buffer;
  readonly cipher: Cipher;
}

function nth(good: readonly Sample[], index: number): Sample {
  const sample = good[index];
  assert.ok(sample !== undefined);
  return sample;
}

const keyIdFor = (scheme: TokenScheme): string => (scheme === 3 ? token.ids.pair : token.ids.alone);

function cipherFor(scheme: TokenScheme, proof: ProofRules): Cipher {
  return new Cipher(token.asToken(token.operations(PROFILES[scheme], proof)), {
    name: 'direct',
    largeValues: 'data-key',
  });
}

/** Some values under each scheme, 4 over each of the others included, made while the module is honest. */
async function samples(proof: ProofRules = PROOF): Promise<Sample[]> {
  Object.assign(token.temper, { rate: 0, blind: undefined });
  const made: Sample[] = [];
  for (const scheme of SCHEMES) {
    const cipher = cipherFor(scheme, proof);
    for (const maxValueBytes of [undefined, 1]) {
      for (const bytes of [2, 16, 33, 100]) {
        const key = { keyId: keyIdFor(scheme), token: { scheme, ivBy: PROFILES[scheme].ivBy, maxValueBytes } };
        made.push({ ciphertext: await cipher.seal(key, randomBytes(bytes), NEVER), cipher });
      }
    }
  }
  return made;
}

/** How a ciphertext ends: 'ok', or the gRPC status. Each meets a token that has not failed for a while. */
async function end({ ciphertext, cipher }: Sample): Promise<string> {
  token.clock += APART_MS;
  try {
    await cipher.open(parseCiphertext(ciphertext), NEVER);
    return 'ok';
  } catch (error) {
    const failure = toKmsError(error);
    // INTERNAL is the answer to a data key of a wrong length, and to nothing else here.
    assert.ok(failure.code !== 'KMS-9001' || failure.message.includes('wrong length'), String(failure.cause));
    return failure.status;
  }
}

/** @returns how many ended how. */
async function underLies(lie: Lie, total: number, proof?: ProofRules): Promise<Record<string, number>> {
  const good = await samples(proof);
  const counts: Record<string, number> = {};
  const each = Math.ceil(total / RATES.length);
  for (const rate of RATES) {
    Object.assign(token.temper, { lie, rate });
    for (let n = 0; n < each; n++) {
      const kind = await end(nth(good, n % good.length));
      counts[kind] = (counts[kind] ?? 0) + 1;
    }
  }
  token.temper.rate = 0;
  return counts;
}

/**
 * How many INVALID_ARGUMENT the rule of eight rounds lets one expect of so many good ciphertexts at rates of 1 to 99 % each: at
 * most p^9 (1-p)^9 at rate p, nine lies and nine known answers in turn, if every lie is a believable one. That is 1.1 in a
 * million on average, and 3.8 at the worst rate, one in two.
 */
const expected = (total: number): number =>
  RATES.reduce((sum, p) => sum + (total / RATES.length) * p ** 9 * (1 - p) ** 9, 0);

const say = (t: TestContext, counts: Record<string, number>): void => t.diagnostic(JSON.stringify(counts));

describe('good ciphertexts on a module that lies', () => {
  /** In number: the most where a lie is believable, so that what is expected stays far below one. */
  const RUNS: Readonly<Record<Lie, number>> = {
    'one code': 20_000,
    'same bytes': 20_000,
    codes: 50_000,
    bytes: 50_000,
    lengths: 50_000,
    handles: 50_000,
    everything: 60_000,
  };
  for (const [lie, total] of Object.entries(RUNS) as [Lie, number][]) {
    test(`${total} of them, ${lie}: none is INVALID_ARGUMENT`, async (t) => {
      const counts = await underLies(lie, total);
      say(t, counts);
      assert.equal(counts['INVALID_ARGUMENT'], undefined);
      assert.ok((counts['ok'] ?? 0) > total / 20, 'some open all the same');
    });
  }

  test('what the rule lets one expect is far below one', (t) => {
    const believable = RUNS['one code'] + RUNS['same bytes'];
    // A code that a wrong tag may have comes from one lie in three of `codes` at most, and of the others no lie is one.
    const rarely = RUNS.codes + RUNS.bytes + RUNS.everything;
    const sum = expected(believable) + expected(rarely) / 3 ** 9 + expected(RUNS.bytes) / 2 ** 8;
    t.diagnostic(`expected: ${sum.toFixed(4)} INVALID_ARGUMENT`);
    assert.ok(sum < 0.1);
  });

  for (const lie of ['one code', 'same bytes', 'codes'] as const) {
    test(`without the rounds some would be, ${lie}`, async (t) => {
      const counts = await underLies(lie, 5_000, { ...PROOF, rounds: 0 });
      say(t, counts);
      assert.ok((counts['INVALID_ARGUMENT'] ?? 0) > 0);
    });
  }

  test('without the check of the id some would be, handles', async (t) => {
    const counts = await underLies('handles', 5_000, { ...PROOF, checksId: false });
    say(t, counts);
    assert.ok((counts['INVALID_ARGUMENT'] ?? 0) > 0);
  });
});

describe('forged ciphertexts on a module that does not lie', () => {
  /** One bit turned, bytes cut off, added or exchanged, a part of another ciphertext put in. */
  function forge(good: readonly Sample[]): Sample {
    const { ciphertext, cipher } = nth(good, randomInt(good.length));
    const other = nth(good, randomInt(good.length)).ciphertext;
    const forged = Buffer.from(ciphertext);
    const at = randomInt(forged.length);
    switch (randomInt(6)) {
      case 0:
        return { cipher, ciphertext: forged.subarray(0, at) };
      case 1:
        return { cipher, ciphertext: Buffer.concat([forged, randomBytes(1 + randomInt(20))]) };
      case 2: {
        const from = Math.min(at, other.length - 1);
        const spliced = Buffer.concat([forged.subarray(0, from), other.subarray(from)]);
        if (!good.some((sample) => sample.ciphertext.equals(spliced))) return { cipher, ciphertext: spliced };
        break;
      }
      case 3:
        randomBytes(Math.min(8, forged.length - at)).copy(forged, at);
        if (!forged.equals(ciphertext)) return { cipher, ciphertext: forged };
        break;
    }
    forged.writeUInt8(forged.readUInt8(at) ^ (1 << randomInt(8)), at);
    return { cipher, ciphertext: forged };
  }

  async function forgeries(total: number, proof: ProofRules, blind?: Blindness): Promise<Record<string, number>> {
    const good = await samples(proof);
    token.temper.blind = blind;
    const counts: Record<string, number> = {};
    for (let n = 0; n < total; n++) {
      const forged = forge(good);
      if (blind === 'MACs') token.agreeWith(forged.ciphertext.subarray(-32));
      const kind = await end(forged);
      counts[kind] = (counts[kind] ?? 0) + 1;
    }
    token.agreeWith(undefined);
    token.temper.blind = undefined;
    return counts;
  }

  /** Whether anything opens does not hang on the rounds, which take most of the time: most are judged with one. */
  for (const [total, rounds] of [
    [10_000, PROOF.rounds],
    [190_000, 1],
  ] as const) {
    test(`${total} of them, judged with ${rounds} rounds: none opens`, async (t) => {
      const counts = await forgeries(total, { ...PROOF, rounds });
      say(t, counts);
      assert.equal(counts['ok'], undefined);
      assert.ok((counts['INVALID_ARGUMENT'] ?? 0) > total / 2);
      assert.equal(counts['UNAVAILABLE'], undefined, 'an honest module is never doubted');
    });
  }

  for (const blind of ['tags', 'MACs'] as const) {
    test(`without the check of ${blind} some would open`, async (t) => {
      const counts = await forgeries(3_000, { ...PROOF, rounds: 1 }, blind);
      say(t, counts);
      assert.ok((counts['ok'] ?? 0) > 0);
    });
  }
});

describe('a known answer proves nothing of', () => {
  const flipped = (ciphertext: Buffer): Buffer => {
    const copy = Buffer.from(ciphertext);
    copy.writeUInt8(copy.readUInt8(copy.length - 1) ^ 1, copy.length - 1);
    return copy;
  };
  const made = async (scheme: TokenScheme, keyId: string): Promise<Buffer> => {
    const key = { keyId, token: { scheme, ivBy: PROFILES[scheme].ivBy, maxValueBytes: undefined } };
    return cipherFor(scheme, PROOF).seal(key, randomBytes(40), NEVER);
  };

  for (const [scheme, other] of [
    [2, 1],
    [1, 2],
    [2, 3],
    [1, 3],
  ] as const) {
    test(`scheme ${scheme} where the profile makes those of scheme ${other}`, async () => {
      const ciphertext = await made(scheme, token.ids.alone);
      const cipher = cipherFor(other, PROOF);
      assert.equal(await end({ ciphertext, cipher }), 'ok');
      assert.equal(await end({ ciphertext: flipped(ciphertext), cipher }), 'FAILED_PRECONDITION');
    });
  }

  test('scheme 3 under an id that says nothing of the MAC key', async () => {
    const ofPair = await made(3, token.ids.pair);
    const ofAlone = await made(3, token.ids.alone);
    const cipher = cipherFor(3, PROOF);
    for (const ciphertext of [ofPair, ofAlone]) assert.equal(await end({ ciphertext, cipher }), 'ok');
    assert.equal(await end({ ciphertext: flipped(ofPair), cipher }), 'INVALID_ARGUMENT');
    assert.equal(await end({ ciphertext: flipped(ofAlone), cipher }), 'FAILED_PRECONDITION');
    token.replaceMacKey();
    assert.equal(await end({ ciphertext: ofAlone, cipher }), 'FAILED_PRECONDITION');
    assert.notEqual(await end({ ciphertext: ofPair, cipher }), 'INVALID_ARGUMENT');
  });
});
