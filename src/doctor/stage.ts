import type { TokenReport } from '../token/index.ts';

/** Where on the way to the HSM it stops. */
export type Stage = 'token process' | 'module' | 'token' | 'login';

/** Read off the report's own words (CKR_ names, PKCS#11 functions); undefined when all is well. */
export function stageOf({ state, reason }: TokenReport): Stage | undefined {
  if (state === 'ready') return undefined;
  if (state === 'refused') return 'login';
  if (/token process ended|keeps ending|cannot be started|has not answered|hangs/.test(reason)) return 'token process';
  if (/\bdlopen\b|C_GetFunctionList|C_Initialize\b/.test(reason)) return 'module';
  if (/C_Login\b|user PIN|pin_file|PIN memory|login/.test(reason)) return 'login';
  return 'token';
}
