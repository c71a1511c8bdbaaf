/**
 * The runs of the attack test. Great numbers of them go to a process of their own, this file: the test runner watches every
 * promise of its own process, which takes more time than the work. A message is a run, the answer how many ended how.
 */
import assert from 'node:assert/strict';
import { randomBytes, randomInt } from 'node:crypto';
import { CallEnd, type Call } from '../../../src/call/index.ts';
import { Cipher, parseCiphertext } from '../../../src/cipher/index.ts';
import { toKmsError } from '../../../src/errors/index.ts';
import type { TokenScheme } from '../../../src/token/index.ts';
import type { ProofRules } from '../../../src/token/process/judge.ts';
import { cbcHmacProfile } from '../../../src/token/profiles/cbc-hmac.ts';
import { gcmProfile } from '../../../src/token/profiles/gcm.ts';
import type { Profile } from '../../../src/token/profiles/index.ts';
import { lunaFipsProfile } from '../../../src/token/profiles/luna-fips.ts';
import { LyingToken, type Blindness, type Lie } from './lying-token.ts';

export type Run = { readonly total: number; readonly proof: ProofRules } & (
  { readonly lie: Lie } | { readonly blind: Blindness | 'none' }
);
export type Counts = Readonly<Record<string, number>>;
export type Answer = { readonly counts: Counts } | { readonly failure: string };

export const PROFILES: Readonly<Record<TokenScheme, Profile>> = {
  1: gcmProfile,
  2: lunaFipsProfile,
  3: cbcHmacProfile,
};
const SCHEMES = [1, 2, 3] as const;
export const RATES = Array.from({ length: 99 }, (_, index) => (index + 1) / 100);
/** Longer than a token that failed is distrusted: each ciphertext meets one that has not failed lately, the worst case. */
const APART_MS = 6_000;
export const NEVER: Call = { deadline: performance.now() + 1e9, signal: new CallEnd() };

let token: LyingToken;
/** Once, before anything else. */
export async function makeToken(): Promise<LyingToken> {
  token = await LyingToken.make();
  return token;
}

/** A ciphertext with the cipher that opens it on this test's token. */
export interface Sample {
  readonly ciphertext: Buffer;
  readonly cipher: Cipher;
}

function nth(good: readonly Sample[], index: number): Sample {
  const sample = good[index];
  assert.ok(sample !== undefined);
  return sample;
}

const keyIdFor = (scheme: TokenScheme): string => (scheme === 3 ? token.ids.pair : token.ids.alone);

export function cipherFor(scheme: TokenScheme, proof: ProofRules): Cipher {
  return new Cipher(token.asToken(token.operations(PROFILES[scheme], proof)), {
    name: 'direct',
    largeValues: 'data-key',
  });
}

/** Some values under each scheme, 4 over each of the others included, made while the module is honest. */
async function samples(proof: ProofRules): Promise<Sample[]> {
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
export async function end({ ciphertext, cipher }: Sample): Promise<string> {
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
async function underLies(lie: Lie, total: number, proof: ProofRules): Promise<Record<string, number>> {
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

async function answer(run: Run): Promise<Answer> {
  try {
    const { total, proof } = run;
    if ('lie' in run) return { counts: await underLies(run.lie, total, proof) };
    return { counts: await forgeries(total, proof, run.blind === 'none' ? undefined : run.blind) };
  } catch (error) {
    return { failure: String(error) };
  }
}

if (process.argv[1] === import.meta.filename) {
  // Most of what happens here is errors, and nobody reads where they come from.
  Error.stackTraceLimit = 0;
  await makeToken();
  process.on('message', (run) => {
    void answer(run as Run).then((counted) => process.send?.(counted));
  });
}
