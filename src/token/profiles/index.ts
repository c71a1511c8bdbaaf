import type { ProfileName } from '../../config/index.ts';
import type { TokenFacts } from '../pkcs11/module.ts';
import { cbcHmacProfile } from './cbc-hmac.ts';
import { cloudHsmProfile } from './cloudhsm.ts';
import { gcmProfile } from './gcm.ts';
import { lunaFipsProfile } from './luna-fips.ts';
import { nShieldFipsProfile } from './nshield-fips.ts';
import type { Profile } from './types.ts';

export type { KeyHandles, Profile } from './types.ts';

/**
 * In the order in which they are tried: the kinds that a vendor's name points to come before the general ones, except
 * where the general one is what the same vendor's HSM does outside FIPS mode.
 */
const PROFILES: readonly Profile[] = [cloudHsmProfile, gcmProfile, lunaFipsProfile, nShieldFipsProfile, cbcHmacProfile];

/**
 * The profiles that may fit a token, best first. Which one does is settled by trying it (`self-test.ts`): a Luna in FIPS
 * mode looks like one that is not until it refuses the caller's IV.
 */
export function candidates(wanted: ProfileName, token: TokenFacts): readonly Profile[] {
  if (wanted !== 'auto') return PROFILES.filter((profile) => profile.name === wanted);
  return PROFILES.filter((profile) => profile.suits(token));
}
