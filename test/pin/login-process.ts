/**
 * A process that logs in as the token process does, with a stand-in for C_Login that writes a line for each call.
 * Argument: a LoginOrder as JSON. Prints "started", then the outcome as JSON.
 */
import { appendFileSync } from 'node:fs';
import { attemptLogin } from '../../src/token/pin/index.ts';
import type { TokenFlags, TokenIdentity } from '../../src/token/pin/index.ts';

export interface LoginOrder {
  readonly stateDir: string;
  /** The file that gets a line, the PIN, for each call of C_Login. */
  readonly counter: string;
  readonly pin: string;
  readonly serial?: string;
  /** Of the token, beside its serial number. */
  readonly token?: Partial<TokenIdentity>;
  /** What C_Login answers: a CKR_ name. */
  readonly answer?: string;
  readonly flags?: Partial<TokenFlags>;
  readonly lockWaitMs?: number;
  /** Milliseconds since the test began, by a clock that stands still. */
  readonly ahead?: number;
  /** Where the process kills itself, or stays (printing "hanging"). */
  readonly end?: 'killed-before-call' | 'killed-in-call' | 'hangs-in-call';
}

const BEGIN = Date.parse('2026-01-01T00:00:00Z');

/** A token as it names itself. */
export const tokenOf = (other: Partial<TokenIdentity> = {}): TokenIdentity => ({
  manufacturer: 'maker',
  model: 'model',
  serial: '0123456789abcdef',
  label: 'partition',
  ...other,
});

/** Calls attemptLogin in this process as ordered. */
export function carryOut(order: LoginOrder): ReturnType<typeof attemptLogin> {
  const login = (pin: string): void => {
    if (order.end === 'killed-before-call') process.kill(process.pid, 'SIGKILL');
    appendFileSync(order.counter, `${pin}\n`);
    if (order.end === 'killed-in-call') process.kill(process.pid, 'SIGKILL');
    if (order.end === 'hangs-in-call') {
      appendFileSync(1, 'hanging\n');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    }
    if (order.answer !== undefined) throw Object.assign(new Error(order.answer), { ckr: order.answer });
  };
  return attemptLogin({
    stateDir: order.stateDir,
    token: tokenOf({ ...(order.serial === undefined ? {} : { serial: order.serial }), ...order.token }),
    pin: Buffer.from(order.pin),
    flags: () => ({
      countLow: false,
      finalTry: false,
      locked: false,
      initialized: true,
      protectedPath: false,
      ...order.flags,
    }),
    login,
    lockWaitMs: order.lockWaitMs ?? 120_000,
    now: () => BEGIN + (order.ahead ?? 0),
  });
}

if (process.argv[1] === import.meta.filename) {
  appendFileSync(1, 'started\n');
  void carryOut(JSON.parse(process.argv[2] ?? '') as LoginOrder).then((outcome) => {
    process.stdout.write(`${JSON.stringify(outcome)}\n`);
  });
}
