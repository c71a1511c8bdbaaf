import type { ProfileName } from '../../config/index.ts';
import type { TokenFacts } from '../pkcs11/module.ts';
import type { SessionPool } from '../pkcs11/session-pool.ts';
import { candidates, type Profile } from '../profiles/index.ts';
import type { Sealing } from './known-answer.ts';
import { selfTest } from './self-test.ts';

export type ProfileChoice =
  | { readonly kind: 'chosen'; readonly profile: Profile }
  /** The token does none of what was tried. */
  | { readonly kind: 'misfit'; readonly why: string }
  /** It may only have been in trouble. */
  | { readonly kind: 'uncertain'; readonly why: string }
  /** Every profile needs a second key that this key does not have. */
  | { readonly kind: 'untried' };

/**
 * Tries the profiles that may fit, best first, on a key. A better one that failed with a code that a token in trouble
 * gives, too, is tried once more when another one fits: a moment's trouble must not change how a key encrypts, and a token
 * that refuses the better one with such a code (and is well, as the other one shows) must not be given up.
 */
export async function chooseProfile(
  wanted: ProfileName,
  token: TokenFacts,
  pool: SessionPool,
  under: Omit<Sealing, 'profile'>,
): Promise<ProfileChoice> {
  const misfits: string[] = [];
  const uncertain: Profile[] = [];
  for (const profile of candidates(wanted, token)) {
    if (profile.scheme === 3 && under.key.mac === undefined) continue;
    const result = await selfTest(pool, { profile, ...under });
    if (result.fits) return { kind: 'chosen', profile: (await firstThatFits(uncertain, pool, under)) ?? profile };
    misfits.push(`${profile.name}: ${result.why}`);
    if (!result.certain) uncertain.push(profile);
  }
  const why = misfits.join('; ');
  if (uncertain.length > 0) return { kind: 'uncertain', why };
  return misfits.length > 0 ? { kind: 'misfit', why } : { kind: 'untried' };
}

async function firstThatFits(
  profiles: readonly Profile[],
  pool: SessionPool,
  under: Omit<Sealing, 'profile'>,
): Promise<Profile | undefined> {
  for (const profile of profiles) if ((await selfTest(pool, { profile, ...under })).fits) return profile;
  return undefined;
}
