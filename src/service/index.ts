export { serve } from './serve.ts';
export { prepareStateDir, StartError } from './state-dir.ts';
export type { KeyringOptions, OwnedKeyring, Parts, TokenOptions } from './parts.ts';
