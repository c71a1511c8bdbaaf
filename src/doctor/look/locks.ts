import { readlinkSync, statSync } from 'node:fs';
import path from 'node:path';
import { allProcesses, readText } from './processes.ts';

/** The first pid namespace's inode number (PROC_PID_INIT_INO in Linux). */
const FIRST_NAMESPACE = 'pid:[4026531836]';

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
  if (lock.test(readText(path.join(proc, 'locks')) ?? '')) return true;
  // A scan of every descriptor of the host would take long, and tell nothing more.
  if (namespaceOf(proc) === FIRST_NAMESPACE) return false;
  return allProcesses(proc).some((process) => process.descriptorsOf(file).some((info) => lock.test(info)));
}

function inodeOf(file: string): bigint | undefined {
  try {
    return statSync(file, { bigint: true }).ino;
  } catch {
    return undefined;
  }
}

function namespaceOf(proc: string): string | undefined {
  try {
    return readlinkSync(path.join(proc, 'self/ns/pid'));
  } catch {
    return undefined;
  }
}
