import { readFileSync } from 'node:fs';
import { codeName } from './codes.ts';
import { functionNames } from './functions.ts';
import type { FunctionName } from './functions.ts';

// The layout of `struct counts` in faulty.h.
export const ruleCellsOffset = 648;
export const ruleCells = 1024;
const loginsOffset = 4744;
const loginRing = { offset: 4752, size: 24, entries: 256 };
const processRing = { offset: 10_896, size: 24, entries: 256 };
export const countsBytes = 17_040;

export interface LoginAttempt {
  readonly atMs: number;
  readonly pid: number;
  /** CKR_ name; undefined while C_Login has not come back (or never did). */
  readonly answer: string | undefined;
  /** The same for the same PIN. */
  readonly pinHash: string;
}

export interface ProcessCounts {
  readonly pid: number;
  readonly openSessions: number;
  readonly mostSessions: number;
  /** Calls that ran at the same moment, at most. */
  readonly mostRunning: number;
}

/** What was called since the module was set up, over all processes that loaded it, dead ones included. */
export interface Counts {
  readonly calls: Readonly<Record<FunctionName, number>>;
  /** The last 256, oldest first. */
  readonly logins: readonly LoginAttempt[];
  /** In the order in which they loaded the module, the last 256. */
  readonly processes: readonly ProcessCounts[];
}

/** The last entries of a ring, oldest first. */
function ring<T>(total: number, entries: number, read: (index: number) => T): T[] {
  const first = Math.max(0, total - entries);
  return Array.from({ length: total - first }, (_, index) => read((first + index) % entries));
}

export function readCounts(file: string): Counts {
  const bytes = readFileSync(file);
  const calls = Object.fromEntries(
    functionNames.map((name, index) => [name, Number(bytes.readBigUInt64LE(8 + index * 8))]),
  ) as Record<FunctionName, number>;
  return {
    calls,
    logins: ring(bytes.readUInt32LE(loginsOffset), loginRing.entries, (index) => {
      const at = loginRing.offset + index * loginRing.size;
      const answer = bytes.readUInt32LE(at + 20);
      return {
        atMs: Number(bytes.readBigInt64LE(at)),
        pinHash: bytes.readBigUInt64LE(at + 8).toString(16),
        pid: bytes.readUInt32LE(at + 16),
        answer: answer === 0xffffffff ? undefined : codeName(answer),
      };
    }),
    processes: ring(bytes.readUInt32LE(loginsOffset + 4), processRing.entries, (index) => {
      const at = processRing.offset + index * processRing.size;
      return {
        pid: bytes.readUInt32LE(at),
        openSessions: bytes.readInt32LE(at + 4),
        mostSessions: bytes.readInt32LE(at + 8),
        mostRunning: bytes.readInt32LE(at + 16),
      };
    }),
  };
}
