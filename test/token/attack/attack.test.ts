/**
 * Good ciphertexts on a module that lies, and forged ones on a module that does not, in great numbers. CredHub takes
 * INVALID_ARGUMENT as "not this key" and loses sight of every value, so no lie may ever lead to it; and nothing forged opens.
 *
 * In this process: the deciding code itself, at a speed that allows great numbers. The same decisions through a real token
 * process and PKCS#11 are in `proven.test.ts`, with fewer ciphertexts.
 */
import assert from 'node:assert/strict';
import { fork, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import path from 'node:path';
import { after, before, describe, test, type TestContext } from 'node:test';
import type { TokenScheme } from '../../../src/token/index.ts';
import { PROOF } from '../../../src/token/process/judge.ts';
import type { Lie, LyingToken } from './lying-token.ts';
import { cipherFor, end, makeToken, NEVER, PROFILES, RATES, type Answer, type Counts, type Run } from './runs.ts';

let token: LyingToken;
let child: ChildProcess;
before(async () => {
  token = await makeToken();
  const runs = path.join(import.meta.dirname, 'runs.ts');
  child = fork(runs, { execArgv: ['--import', 'tsx'] });
});
after(() => child.disconnect());

async function ended(run: Run): Promise<Counts> {
  child.send(run);
  const [answer] = (await once(child, 'message')) as [Answer];
  if ('failure' in answer) assert.fail(answer.failure);
  return answer.counts;
}

/**
 * How many INVALID_ARGUMENT the rule of eight rounds lets one expect of so many good ciphertexts at rates of 1 to 99 % each: at
 * most p^9 (1-p)^9 at rate p, nine lies and nine known answers in turn, if every lie is a believable one. That is 1.1 in a
 * million on average, and 3.8 at the worst rate, one in two.
 */
const expected = (total: number): number =>
  RATES.reduce((sum, p) => sum + (total / RATES.length) * p ** 9 * (1 - p) ** 9, 0);

const say = (t: TestContext, counts: Counts): void => t.diagnostic(JSON.stringify(counts));

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
      const counts = await ended({ lie, total, proof: PROOF });
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

  // A data key is opened three times even so: three equal lies in a row are rarer than two.
  for (const [lie, total] of [
    ['one code', 5_000],
    ['same bytes', 40_000],
    ['codes', 5_000],
  ] as const) {
    test(`without the rounds some would be, ${lie}`, async (t) => {
      const counts = await ended({ lie, total, proof: { ...PROOF, rounds: 0 } });
      say(t, counts);
      assert.ok((counts['INVALID_ARGUMENT'] ?? 0) > 0);
    });
  }

  test('without the check of the id some would be, handles', async (t) => {
    const counts = await ended({ lie: 'handles', total: 5_000, proof: { ...PROOF, checksId: false } });
    say(t, counts);
    assert.ok((counts['INVALID_ARGUMENT'] ?? 0) > 0);
  });
});

describe('forged ciphertexts on a module that does not lie', () => {
  /** Whether anything opens does not hang on the rounds, which take most of the time: most are judged with none. */
  for (const [total, rounds] of [
    [10_000, PROOF.rounds],
    [90_000, 0],
  ] as const) {
    test(`${total} of them, judged with ${rounds} rounds: none opens`, async (t) => {
      const counts = await ended({ blind: 'none', total, proof: { ...PROOF, rounds } });
      say(t, counts);
      assert.equal(counts['ok'], undefined);
      assert.ok((counts['INVALID_ARGUMENT'] ?? 0) > total / 2);
      assert.equal(counts['UNAVAILABLE'], undefined, 'an honest module is never doubted');
    });
  }

  for (const blind of ['tags', 'MACs'] as const) {
    test(`without the check of ${blind} some would open`, async (t) => {
      const counts = await ended({ blind, total: 3_000, proof: { ...PROOF, rounds: 1 } });
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
