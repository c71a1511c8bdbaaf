/**
 * A PKCS#11 module that passes calls to a real one and misbehaves as told. The code under test loads `path` with
 * `environment`; the test tells it what to do wrong by `control`, while it runs, and reads what was called.
 */
import { chmodSync, closeSync, mkdtempSync, openSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buildFaultyModule } from './build.ts';
import { code } from './codes.ts';
import { countsBytes, readCounts, ruleCells, ruleCellsOffset } from './counts.ts';
import type { Counts } from './counts.ts';
import { controlText } from './faults.ts';
import type { Events, Faults } from './faults.ts';

export { buildFaultyModule } from './build.ts';
export { code, codeName } from './codes.ts';
export type { Counts, LoginAttempt, ProcessCounts } from './counts.ts';
export { LARGE_SLOTS } from './faults.ts';
export type { Act, Faults, IvSettings, Rule } from './faults.ts';
export { functionNames } from './functions.ts';
export type { FunctionName } from './functions.ts';

export interface FaultyModule {
  /** Absolute path of the module. */
  readonly path: string;
  /** What a process that loads it needs in its environment, the real module's included. */
  readonly environment: Readonly<Record<string, string>>;
  /** Replaces everything told before: `control({})` makes it behave. Holds from the next call on. */
  control(faults: Faults): void;
  /** Every open session is dead at once, login and object handles with them. Until C_OpenSession. */
  loseSessions(answer?: string | number): void;
  /** Sessions live on without their login. Until C_Login; object handles are stale as well. */
  loseLogin(answer?: string | number): void;
  /** Object handles are dead (CKR_KEY_HANDLE_INVALID, CKR_OBJECT_HANDLE_INVALID) until found again. */
  staleObjects(answer?: string | number): void;
  /** CKR_DEVICE_ERROR to every call until C_Finalize and C_Initialize, in this or only in a new process. */
  wedge(until?: 'initialize' | 'new-process'): void;
  counts(): Counts;
  /** Removes the temporary directory. */
  cleanup(): void;
}

/** Puts the faulty module in front of a real one. */
export function faultyModule(options: {
  /** Absolute path of the real module. */
  readonly inner: string;
  readonly innerEnv?: Readonly<Record<string, string>>;
}): FaultyModule {
  const directory = mkdtempSync(path.join(tmpdir(), 'faulty-'));
  // The process under test may run as another user.
  chmodSync(directory, 0o755);
  const controlFile = path.join(directory, 'control');
  const countsFile = path.join(directory, 'counts');
  writeFileSync(countsFile, Buffer.alloc(countsBytes));
  chmodSync(countsFile, 0o666);

  const events: Events = {
    ...{ sessionsLost: 0, sessionsLostCode: 0, loginLost: 0, loginLostCode: 0, objectsStale: 0, objectsStaleCode: 0 },
    ...{ wedged: 0, wedgedUntilNewProcess: 0, removals: 0, haEvent: 0 },
  };
  let faults: Faults = {};
  let firstRule = 0;
  let nextRule = 0;
  let writes = 0;
  let since = Date.now();

  const publish = (): void => {
    const staged = `${controlFile}.${++writes}`;
    writeFileSync(staged, controlText(faults, events, firstRule, since), { mode: 0o644 });
    renameSync(staged, controlFile);
  };

  publish();
  return {
    path: buildFaultyModule(),
    environment: {
      ...options.innerEnv,
      FAULTY_MODULE: options.inner,
      FAULTY_CONTROL: controlFile,
      FAULTY_COUNTS: countsFile,
    },
    control(next) {
      if (next.removed !== undefined && faults.removed === undefined) events.removals++;
      if (next.deadMember !== undefined && faults.deadMember === undefined) events.haEvent++;
      faults = next;
      since = Date.now();
      firstRule = nextRule;
      nextRule += next.rules?.length ?? 0;
      const file = openSync(countsFile, 'r+');
      for (let id = firstRule; id < nextRule; id++)
        writeSync(file, Buffer.alloc(4), 0, 4, ruleCellsOffset + (id % ruleCells) * 4);
      closeSync(file);
      publish();
    },
    loseSessions(answer) {
      events.sessionsLost++;
      events.sessionsLostCode = answer === undefined ? 0 : code(answer);
      publish();
    },
    loseLogin(answer) {
      events.loginLost++;
      events.loginLostCode = answer === undefined ? 0 : code(answer);
      publish();
    },
    staleObjects(answer) {
      events.objectsStale++;
      events.objectsStaleCode = answer === undefined ? 0 : code(answer);
      publish();
    },
    wedge(until = 'initialize') {
      events.wedged++;
      events.wedgedUntilNewProcess = Number(until === 'new-process');
      publish();
    },
    counts: () => readCounts(countsFile),
    cleanup: () => rmSync(directory, { recursive: true, force: true }),
  };
}
