import path from 'node:path';
import { allProcesses, readText, type Process } from './processes.ts';

/** __SO_ACCEPTCON in the flags of /proc/net/unix. */
const ACCEPTS = 0x10000;
/** TCP_LISTEN in /proc/net/tcp. */
const TCP_LISTEN = '0A';

/** Processes that listen on a Unix socket, and how many sockets of that name listen, seen processes or not. */
export interface UnixListeners {
  readonly sockets: number;
  /** Those whose descriptors this user may see. */
  readonly processes: readonly Process[];
}

/**
 * Who listens at a path, or at an abstract name with its leading "@". The kernel shows the name that a socket was bound
 * under, and this program binds under PATH.xxxxxxxx before it renames.
 */
export function unixListeners(proc: string, name: string): UnixListeners {
  const inodes = new Set<string>();
  for (const line of (readText(path.join(proc, 'net/unix')) ?? '').split('\n').slice(1)) {
    const [, , , flags = '0', , , inode = '', ...rest] = line.trim().split(/\s+/);
    if ((parseInt(flags, 16) & ACCEPTS) === 0) continue;
    const bound = rest.join(' ');
    if (bound === name || (bound.startsWith(name) && /^\.[0-9a-f]{8}$/.test(bound.slice(name.length))))
      inodes.add(inode);
  }
  if (inodes.size === 0) return { sockets: 0, processes: [] };
  return { sockets: inodes.size, processes: allProcesses(proc).filter((process) => process.hasSocket(inodes)) };
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
