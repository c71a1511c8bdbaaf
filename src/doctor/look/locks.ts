import { closeSync, fstatSync, openSync } from 'node:fs';
import path from 'node:path';
import { readText } from './processes.ts';

/** Whether any process holds a kernel lock on a file, as /proc/locks tells; takes none itself. */
export function isLocked(proc: string, file: string): boolean {
  try {
    const descriptor = openSync(file, 'r');
    try {
      const { ino } = fstatSync(descriptor);
      return (readText(path.join(proc, 'locks')) ?? '')
        .split('\n')
        .some((line) => / FLOCK .*:(\d+) 0 EOF/.exec(line)?.[1] === String(ino));
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return false;
  }
}
