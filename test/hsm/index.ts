/** Fixtures: a fresh token behind each real PKCS#11 module that Debian ships. */
export type { Hsm, KeyOptions } from './fixture.ts';
export { makeSoftHsm, softHsmModule } from './softhsm.ts';
