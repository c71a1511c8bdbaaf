import { PinFileError } from '../pin/index.ts';
import { CkrError, type Pkcs11Module, type TokenFacts } from '../pkcs11/module.ts';
import type { TokenStage } from '../types.ts';
import type { StateEvent } from '../wire/messages.ts';
import { LoginError } from './login.ts';
import type { Partition } from './partition.ts';

/** Functions whose failure is not the token's; 'dlopen' stands for C_GetFunctionList as well. */
const STAGES: Readonly<Record<string, TokenStage>> = { dlopen: 'module', C_Initialize: 'module', C_Login: 'login' };

/** Where on the way to the token an attempt ended that threw this. */
export function stageOf(thrown: unknown): TokenStage {
  if (thrown instanceof LoginError || thrown instanceof PinFileError) return 'login';
  return (thrown instanceof CkrError ? STAGES[thrown.operation] : undefined) ?? 'token';
}

/** Why an attempt to connect failed, and what to do about it. @param partition - as operators call it. */
export function explain(thrown: unknown, partition: string, modulePath: string): string {
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  if (!(thrown instanceof CkrError)) return `partition ${partition}: ${text}`;
  const mend =
    thrown.operation === 'dlopen'
      ? `check token.module (${modulePath}) and the libraries that it needs (ldd)`
      : 'check that the HSM is up and reachable, and its client configuration; it is tried again without end';
  return `partition ${partition}: ${text}; ${mend}`;
}

/** What is known at a moment of the connection and its parts. */
export interface Known {
  readonly modulePath: string;
  readonly module: Pkcs11Module | undefined;
  /** The partition of now, or the token as it was seen last. */
  readonly partition: Partition | undefined;
  readonly lastToken: TokenFacts | undefined;
  readonly stage: TokenStage | undefined;
}

/** The same for operators. Throws nothing. */
export function stateDetails({ modulePath, module, partition, lastToken, stage }: Known): StateEvent['details'] {
  const token = partition?.token ?? lastToken;
  return {
    module: { path: modulePath, ...moduleInfo(module) },
    ...(token === undefined ? {} : { token: tokenDetails(token) }),
    ...(partition === undefined
      ? {}
      : {
          profile: partition.profile.name,
          sessions: { open: partition.pool.open, limit: partition.pool.limit },
        }),
    ...(stage === undefined ? {} : { stage }),
  };
}

function moduleInfo(module: Pkcs11Module | undefined): { description?: string; version?: string } {
  try {
    return module?.initialized === true ? module.info() : {};
  } catch {
    return {};
  }
}

const FLAG_NAMES: readonly (readonly [number, string])[] = [
  [0x4, 'login required'],
  [0x8, 'user PIN set'],
  [0x100, 'protected authentication path'],
  [0x400, 'initialized'],
  [0x10000, 'user PIN count low'],
  [0x20000, 'user PIN final try'],
  [0x40000, 'user PIN locked'],
  [0x80000, 'user PIN to be changed'],
];

/** CKF_… flags of CK_TOKEN_INFO (PKCS#11 3.1, section 3.2) as operators read them. */
export const flagNames = (flags: number): readonly string[] =>
  FLAG_NAMES.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);

const tokenDetails = (token: TokenFacts): NonNullable<StateEvent['details']['token']> => ({
  slot: token.slotId,
  label: token.label,
  serial: token.serial,
  manufacturer: token.manufacturer,
  model: token.model,
  firmware: token.firmware,
  flags: flagNames(token.flags),
});
