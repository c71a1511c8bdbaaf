import type { ProfileName } from '../../config/index.ts';
import type { TokenFacts } from '../pkcs11/module.ts';
import type { TokenScheme } from '../types.ts';
import { cbcHmacProfile } from './cbc-hmac.ts';
import { cloudHsmProfile } from './cloudhsm.ts';
import { gcmProfile } from './gcm.ts';
import { lunaFipsProfile } from './luna-fips.ts';
import { nShieldFipsProfile } from './nshield-fips.ts';
import type { Profile } from './types.ts';

export type { KeyHandles, Profile } from './types.ts';
export { IvError } from './iv-error.ts';

/**
 * In the order in which they are tried. CloudHSM and nShield write their IV into the caller's buffer, which the general
 * profile would not notice, so they come before it (outside FIPS mode they leave the zeros there, and the self-test says
 * so); a Luna in FIPS mode refuses the caller's IV, so it may come after.
 */
const PROFILES: readonly Profile[] = [cloudHsmProfile, nShieldFipsProfile, gcmProfile, lunaFipsProfile, cbcHmacProfile];

/**
 * The profiles that may fit a token, best first. Which one does is settled by trying it (`self-test.ts`): a Luna in FIPS
 * mode looks like one that is not until it refuses the caller's IV.
 */
export function candidates(wanted: ProfileName, token: TokenFacts): readonly Profile[] {
  if (wanted !== 'auto') return PROFILES.filter((profile) => profile.name === wanted);
  return PROFILES.filter((profile) => profile.suits(token));
}

/**
 * The profile whose known answers say something of a ciphertext of `scheme`: it has the same mechanism and IV length. A
 * token that has lost the one that made the ciphertext (a Luna that left FIPS mode) may well be unable to open it.
 * @returns undefined where the token's own profile makes no such known answer.
 */
export function knownAnswerProfile(own: Profile, scheme: TokenScheme): Profile | undefined {
  if (own.scheme === scheme) return own;
  // Where the key has its second one, any token with the mechanisms does scheme 3.
  return scheme === 3 ? cbcHmacProfile : undefined;
}
