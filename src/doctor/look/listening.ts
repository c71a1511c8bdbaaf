import { once } from 'node:events';
import { createConnection } from 'node:net';
import path from 'node:path';
import type { ListenerConfig } from '../../config/index.ts';
import { allProcesses, readText, type Process } from './processes.ts';

/** __SO_ACCEPTCON in the flags of /proc/net/unix. */
const ACCEPTS = 0x10000;
/** TCP_LISTEN in /proc/net/tcp. */
const TCP_LISTEN = '0A';

/** What a Unix socket is called here and in /proc/net/unix: its path, or an abstract name with a leading `@`. */
export const socketName = (endpoint: ListenerConfig['endpoint']): string =>
  endpoint.kind === 'path' ? endpoint.path : `@${endpoint.name}`;

/** What Node connects to under such a name: an abstract one begins with NUL there. */
export const addressOf = (name: string): string => name.replace(/^@/, '\0');

/** A listening Unix socket. */
export interface UnixListener {
  /** The name that it was bound under: this program binds under PATH.xxxxxxxx before it renames. */
  readonly bound: string;
  /** Those that hold it, as far as this user may see. */
  readonly processes: readonly Process[];
}

interface Row {
  readonly bound: string;
  readonly inode: string;
  readonly listens: boolean;
}

/** Who listens under a path, or an abstract name with its leading `@`. More than one: only one can be reached by it. */
export function unixListeners(proc: string, name: string): readonly UnixListener[] {
  const rows = rowsOf(proc, name).filter(({ listens }) => listens);
  if (rows.length === 0) return [];
  const processes = allProcesses(proc);
  return rows.map(({ bound, inode }) => ({ bound, processes: processes.filter((each) => each.hasSocket(inode)) }));
}

/** @returns 'connected', the system's error code, or 'timeout' after so many milliseconds. */
export function connects(name: string, withinMs: number): Promise<string> {
  return new Promise((resolve) => {
    const connection = createConnection({ path: addressOf(name) });
    const end = (result: string): void => {
      clearTimeout(timer);
      connection.destroy();
      resolve(result);
    };
    const timer = setTimeout(() => end('timeout'), withinMs);
    connection.on('connect', () => end('connected'));
    connection.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  });
}

/** More than others open or close at the same moment: doctor's own other looks, clients. */
const KNOCKS = 12;

/**
 * Which of several listeners a path leads to: connections through the path show in the kernel's table under the name that
 * their listener was bound under.
 */
export async function reached(
  proc: string,
  name: string,
  listeners: readonly UnixListener[],
  withinMs: number,
): Promise<UnixListener | undefined> {
  if (listeners.length < 2) return listeners[0];
  const before = connectionsOf(proc, name);
  const connections = Array.from({ length: KNOCKS }, () => createConnection({ path: addressOf(name) }));
  try {
    const signal = AbortSignal.timeout(withinMs);
    await Promise.all(connections.map((connection) => once(connection, 'connect', { signal })));
    const after = connectionsOf(proc, name);
    const more = ({ bound }: UnixListener): number => (after.get(bound) ?? 0) - (before.get(bound) ?? 0);
    return listeners.find((listener) => more(listener) > KNOCKS / 2);
  } catch {
    return undefined;
  } finally {
    for (const connection of connections) connection.on('error', () => undefined).destroy();
  }
}

function connectionsOf(proc: string, name: string): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { bound, listens } of rowsOf(proc, name)) if (!listens) counts.set(bound, (counts.get(bound) ?? 0) + 1);
  return counts;
}

/** The lines of /proc/net/unix about that name. */
function rowsOf(proc: string, name: string): Row[] {
  const table = readText(path.join(proc, 'net/unix')) ?? '';
  return table.split('\n').flatMap((line) => {
    const [, , , flags = '0', , , inode = '', ...rest] = line.trim().split(/\s+/);
    const bound = rest.join(' ');
    const isOurs = bound.startsWith(name) && /^(\.[0-9a-f]{8})?$/.test(bound.slice(name.length));
    return isOurs ? [{ bound, inode, listens: (parseInt(flags, 16) & ACCEPTS) !== 0 }] : [];
  });
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
