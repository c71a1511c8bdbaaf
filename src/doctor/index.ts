/** `kms-plugin doctor`: what is wrong, with one command. */
export { writeBundle } from './bundle/bundle.ts';
export { diagnose } from './diagnose.ts';
export { Facts } from './facts.ts';
export { isSlow } from './look/pace.ts';
export { SURROUNDINGS, type Surroundings, type WithOwnToken } from './surroundings.ts';
export { ABOVE } from './types.ts';
export type { Diagnosis, Line, Verdict } from './types.ts';
