/** Reading kms-plugin.yml: YAML file in, checked and typed configuration out, or every fault at once. */
export { credhubTakes } from './check/tls/index.ts';
export { checkIdentity } from './check/tls/names.ts';
export { asFarAsLive, describeChanges, type ConfigChanges } from './changes.ts';
export { checkConfig, loadConfig, locateService, type ConfigCheck, type ServicePlace } from './load.ts';
export { ConfigError, describeProblem, type Problem } from './problems.ts';
export type * from './types.ts';
