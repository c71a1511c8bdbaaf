import path from 'node:path';
import { allProcesses, readText, type Process } from './processes.ts';

/** __SO_ACCEPTCON in the flags of /proc/net/unix. */
const ACCEPTS = 0x10000;
/** TCP_LISTEN in /proc/net/tcp. */
const TCP_LISTEN = '0A';

/** How many sockets listen under a name, and the processes that hold the newest of them. */
export interface UnixListeners {
  readonly sockets: number;
  /** Those whose descriptors this user may see. */
  readonly processes: readonly Process[];
}

/**
 * Who listens at a path, or at an abstract name with its leading "@". The kernel shows the name that a socket was bound
 * under, and this program binds under PATH.xxxxxxxx before it renames. Where several have the name, the path leads to
 * the one that was made last, and the kernel numbers sockets upwards.
 */
export function unixListeners(proc: string, name: string): UnixListeners {
  const inodes: number[] = [];
  for (const line of (readText(path.join(proc, 'net/unix')) ?? '').split('\n').slice(1)) {
    const [, , , flags = '0', , , inode = '', ...rest] = line.trim().split(/\s+/);
    if ((parseInt(flags, 16) & ACCEPTS) === 0) continue;
    const bound = rest.join(' ');
    const isOurs = bound.startsWith(name) && /^(\.[0-9a-f]{8})?$/.test(bound.slice(name.length));
    if (isOurs) inodes.push(Number(inode));
  }
  if (inodes.length === 0) return { sockets: 0, processes: [] };
  const newest = String(Math.max(...inodes));
  return { sockets: inodes.length, processes: allProcesses(proc).filter((process) => process.hasSocket(newest)) };
}

/** Whether anybody listens on a TCP port of this network namespace; undefined when it cannot be seen. */
export function tcpListens(proc: string, port: number): boolean | undefined {
  const tables = ['net/tcp', 'net/tcp6'].map((name) => readText(path.join(proc, name)));
  if (tables.every((table) => table === undefined)) return undefined;
  const wanted = port.toString(16).toUpperCase().padStart(4, '0');
  return tables.some((table) =>
    (table ?? '').split('\n').some((line) => {
      const [, local = '', , state] = line.trim().split(/\s+/);
      return state === TCP_LISTEN && local.endsWith(`:${wanted}`);
    }),
  );
}
