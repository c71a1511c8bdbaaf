import { randomBytes } from 'node:crypto';
import { readdir, unlink } from 'node:fs/promises';
import path from 'node:path';
import { lookAt } from './look.ts';

/** A dot and 8 hex digits: 9 bytes, so that a path of up to 98 bytes still fits the 107 of sun_path (unix(7)). */
const SUFFIX = /^\.[0-9a-f]{8}$/;

/** A name in the socket's own directory, under which it is bound before it is renamed. */
export function temporaryName(socketPath: string): string {
  return `${socketPath}.${randomBytes(4).toString('hex')}`;
}

/**
 * Removes what predecessors left when they were killed between bind and rename. Only under the directory's socket.lock:
 * then no living process has a temporary name there. Sockets that answer, and what is no socket, stay all the same.
 */
export async function removeStaleTemporaries(socketPath: string): Promise<void> {
  const directory = path.dirname(socketPath);
  const base = path.basename(socketPath);
  for (const name of await readdir(directory)) {
    if (!name.startsWith(base) || !SUFFIX.test(name.slice(base.length))) continue;
    const file = path.join(directory, name);
    if ((await lookAt(file)) === 'stale') await unlink(file).catch(() => undefined);
  }
}
