import { statSync } from 'node:fs';
import path from 'node:path';
import { allProcesses, readText } from './processes.ts';

/**
 * Whether any process holds a kernel lock (flock(2)) on a file; takes none itself, which could keep a plugin from starting.
 *
 * /proc/locks names the process that took it: for ours that is a helper that has ended, and in every pid namespace but the
 * first (a container, a pod) the kernel leaves such a lock out. There the descriptors of those who hold the file open tell.
 */
export function isLocked(proc: string, file: string): boolean {
  const inode = inodeOf(file);
  if (inode === undefined) return false;
  const lock = new RegExp(` FLOCK .*:${inode} 0 EOF$`, 'm');
  return (
    lock.test(readText(path.join(proc, 'locks')) ?? '') ||
    allProcesses(proc).some((process) => process.descriptorsOf(file).some((info) => lock.test(info)))
  );
}

function inodeOf(file: string): number | undefined {
  try {
    return statSync(file).ino;
  } catch {
    return undefined;
  }
}
