export { serve } from './serve.ts';
export { prepareStateDir, requireOwner, StartError } from './state-dir.ts';
export type { OwnedKeyring, Parts } from './hsm-side.ts';
