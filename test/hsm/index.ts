/** Fixtures: a fresh token behind each real PKCS#11 module that Debian ships. */
import type { Hsm } from './fixture.ts';
import { makeNssHsm } from './nss.ts';
import { makeOpenCryptokiHsm } from './opencryptoki.ts';
import { makeSoftHsm } from './softhsm.ts';
import { makeTpmHsm } from './tpm.ts';

export { run } from './fixture.ts';
export type { Hsm, KeyOptions } from './fixture.ts';
export { makeNssHsm, makeOpenCryptokiHsm, makeSoftHsm, makeTpmHsm };
export { softHsmModule } from './softhsm.ts';

/** Every real module, for suites that run against all. */
export const realModules: Readonly<Record<Hsm['name'], () => Promise<Hsm>>> = {
  softhsm2: makeSoftHsm,
  nss: makeNssHsm,
  opencryptoki: makeOpenCryptokiHsm,
  tpm2: makeTpmHsm,
};
