import { code } from './codes.ts';
import type { FunctionName } from './functions.ts';

/** What one rule does. Rules are looked at in order: first all that wait or kill, then the first that answers. */
export type Act =
  | { readonly delayUs: number; readonly jitterUs?: number }
  /** A CKR_ name or number in place of the real answer. */
  | { readonly answer: string | number; readonly leaveOpen?: boolean }
  /** For ever: only the process's end ends it. */
  | { readonly hang: true }
  /** Until the rule is gone from the control file. */
  | { readonly stall: true }
  | { readonly crash: 'segv' | 'abort' | 'exit' }
  /** Every byte of the answer's data is changed; the answer stays CKR_OK. */
  | { readonly garbage: true }
  /** The answer stays CKR_OK, and the length of its data is said to be this, whatever room there is; -1 is all ones. */
  | { readonly claims: number }
  /** On stdout and stderr, as vendors' libraries do. */
  | { readonly print: string };

export type Rule = Act & {
  readonly on: FunctionName | readonly FunctionName[] | '*';
  /** Matching calls that pass before the rule begins, and how often it then fires; counted over all processes. */
  readonly skip?: number;
  readonly times?: number;
  /** By chance, once in so many. */
  readonly oneIn?: number;
  /** Begins after, and ends after, so many milliseconds from now. */
  readonly afterMs?: number;
  readonly forMs?: number;
  /** Only where the call's data has this many bytes, or at least as many. */
  readonly length?: number;
  readonly minLength?: number;
  /** After the real module has done its work, instead of before. */
  readonly after?: boolean;
};

/** Who makes the IV of AES-GCM. */
export interface IvSettings {
  /**
   * cloudhsm: the caller's buffer must be 12 bytes of zeros, the HSM's IV is written there, data over 16,384 bytes is
   * refused; nshield: the same with any 12-byte buffer and no limit; luna-fips: no IV may be given, 16 bytes of IV
   * follow the tag.
   */
  readonly mode: 'caller' | 'cloudhsm' | 'luna-fips' | 'nshield';
  /** A bad HSM: an IV of zeros, IVs out of a fixed pool of so many (1 repeats always), or an IV cut short. */
  readonly fault?: 'zero' | 'short' | { readonly pool: number };
  /** The IV is in the caller's buffer after C_EncryptInit already; otherwise after C_Encrypt. */
  readonly at?: 'init' | 'encrypt';
}

/** Stands above the low 32 bits of a slot id with `largeSlots`. */
export const LARGE_SLOTS = 0xfedcba98_00000000n;

/** What is wrong for as long as it is told. */
export interface Faults {
  readonly rules?: readonly Rule[];
  readonly iv?: IvSettings;
  /** Largest data in bytes of one GCM call. */
  readonly gcmLimit?: number;
  readonly gcmSinglePart?: boolean;
  /** CKR_ for a wrong GCM tag. */
  readonly wrongTag?: string | number;
  /** CKM_ names or numbers that the token shall not have. */
  readonly hide?: readonly (string | number)[];
  /** Sessions for each process; CKR_SESSION_COUNT above. */
  readonly maxSessions?: number;
  /** Slot ids above 2^53: what the real module numbers, below LARGE_SLOTS. */
  readonly largeSlots?: boolean;
  /** C_GetTokenInfo says nothing of that limit. */
  readonly hideMaxSessions?: boolean;
  /** The answer to C_OpenSession for a session that only reads (AWS CloudHSM's SDK 5.0 to 5.4). */
  readonly refuseReadOnly?: string | number;
  /** Handles that one C_FindObjects gives at most, whatever it is asked for. */
  readonly handlesAtOnce?: number;
  /** Searches find nothing, and say CKR_OK. */
  readonly hideObjects?: boolean;
  /** The token is out: no slot has one, sessions are dead. It comes back when this is gone. */
  readonly removed?: {
    /** What session calls answer meanwhile; CKR_DEVICE_REMOVED by default. */
    readonly answer?: string | number;
    /** A process sees the token's return only after C_Finalize and C_Initialize. */
    readonly untilInitialize?: boolean;
  };
  /** A member of an HA group is dead: a process's first calls block so long, then the other member serves. */
  readonly deadMember?: { readonly timeoutMs: number };
  readonly tokenInfo?: {
    readonly manufacturer?: string;
    readonly model?: string;
    readonly serial?: string;
    readonly firmware?: readonly [number, number];
    /** CKF_ names. */
    readonly set?: readonly string[];
    readonly clear?: readonly string[];
  };
  readonly libraryInfo?: { readonly manufacturer?: string; readonly description?: string };
}

/** Things that happen at a moment; numbers that only grow. */
export interface Events {
  sessionsLost: number;
  sessionsLostCode: number;
  loginLost: number;
  loginLostCode: number;
  objectsStale: number;
  objectsStaleCode: number;
  wedged: number;
  wedgedUntilNewProcess: number;
  removals: number;
  haEvent: number;
}

function act(rule: Rule): string[] {
  if ('delayUs' in rule) return ['do=delay', `value=${rule.delayUs}`, `jitter=${rule.jitterUs ?? 0}`];
  if ('answer' in rule)
    return ['do=answer', `value=${code(rule.answer)}`, `leaveOpen=${Number(rule.leaveOpen ?? false)}`];
  if ('hang' in rule) return ['do=hang'];
  if ('stall' in rule) return ['do=stall'];
  if ('crash' in rule) return [`do=${rule.crash}`, 'value=3'];
  if ('garbage' in rule) return ['do=garbage'];
  if ('claims' in rule) return ['do=claim', `value=${rule.claims}`];
  return ['do=print', `text=${rule.print.replace(/[\t\n]/g, ' ')}`];
}

function ruleLine(rule: Rule, id: number, now: number): string {
  const words = ['rule', `id=${id}`, `fn=${typeof rule.on === 'string' ? rule.on : rule.on.join(',')}`, ...act(rule)];
  const from = now + (rule.afterMs ?? 0);
  if (rule.afterMs !== undefined) words.push(`from=${from}`);
  if (rule.forMs !== undefined) words.push(`until=${from + rule.forMs}`);
  for (const name of ['skip', 'times', 'oneIn', 'length', 'minLength'] as const) {
    if (rule[name] !== undefined) words.push(`${name}=${rule[name]}`);
  }
  if (rule.after === true) words.push('after=1');
  return words.join('\t');
}

function flags(names: readonly string[] | undefined): number {
  return (names ?? []).reduce((sum, name) => sum | code(name), 0) >>> 0;
}

/** The control file's text. Each rule gets an id from `firstRule` on; its times count from `now`, in ms. */
export function controlText(faults: Faults, events: Readonly<Events>, firstRule: number, now: number): string {
  const iv = faults.iv ?? { mode: 'caller' };
  const settings: Record<string, string | number | undefined> = {
    ...events,
    ivMode: ['caller', 'cloudhsm', 'luna-fips', 'nshield'].indexOf(iv.mode),
    ivFault: iv.fault === undefined ? 0 : iv.fault === 'zero' ? 1 : iv.fault === 'short' ? 3 : 2,
    ivPool: typeof iv.fault === 'object' ? iv.fault.pool : 0,
    ivAtInit: Number(iv.at === 'init'),
    gcmLimit: faults.gcmLimit,
    gcmSinglePart: Number(faults.gcmSinglePart ?? false),
    wrongTag: faults.wrongTag === undefined ? 0 : code(faults.wrongTag),
    maxSessions: faults.maxSessions,
    handlesAtOnce: faults.handlesAtOnce,
    hideObjects: Number(faults.hideObjects ?? false),
    largeSlots: faults.largeSlots === true ? 1 : undefined,
    hideMaxSessions: Number(faults.hideMaxSessions ?? false),
    refuseReadOnly: faults.refuseReadOnly === undefined ? 0 : code(faults.refuseReadOnly),
    removed: Number(faults.removed !== undefined),
    removedSticky: Number(faults.removed?.untilInitialize ?? false),
    removedCode: faults.removed?.answer === undefined ? 0 : code(faults.removed.answer),
    haEvent: faults.deadMember === undefined ? 0 : events.haEvent,
    haTimeoutMs: faults.deadMember?.timeoutMs,
    manufacturer: faults.tokenInfo?.manufacturer,
    model: faults.tokenInfo?.model,
    serial: faults.tokenInfo?.serial,
    firmwareMajor: faults.tokenInfo?.firmware?.[0],
    firmwareMinor: faults.tokenInfo?.firmware?.[1],
    flagsSet: flags(faults.tokenInfo?.set),
    flagsClear: flags(faults.tokenInfo?.clear),
    libraryManufacturer: faults.libraryInfo?.manufacturer,
    libraryDescription: faults.libraryInfo?.description,
  };
  return [
    ...Object.entries(settings).flatMap(([name, value]) => (value === undefined ? [] : [`${name}\t${value}`])),
    ...(faults.hide ?? []).map((mechanism) => `hide\t${code(mechanism)}`),
    ...(faults.rules ?? []).map((rule, index) => ruleLine(rule, firstRule + index, now)),
    '',
  ].join('\n');
}
