import { readdirSync, readFileSync } from 'node:fs';

/** Resident memory that is the process's own (anonymous), in MiB. */
export function residentMiB(pid: number): number {
  const kilobytes = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes ?? 0) / 1024;
}

export const openDescriptors = (pid: number): number => readdirSync(`/proc/${pid}/fd`).length;

export const threads = (pid: number): number => readdirSync(`/proc/${pid}/task`).length;
