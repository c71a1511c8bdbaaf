import { lstat } from 'node:fs/promises';
import { createConnection } from 'node:net';

/** What has a name: nothing, a socket nobody listens on any more, a live socket, or something that is no socket. */
export type Found = 'nothing' | 'stale' | 'live' | 'not-a-socket';

/**
 * Looks at a path without changing anything. A socket is stale only when connecting to it is refused (ECONNREFUSED:
 * nobody listens); any other trouble, such as a full backlog or a missing permission, leaves it to its owner.
 */
export async function lookAt(path: string): Promise<Found> {
  const stats = await lstat(path).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  });
  if (stats === undefined) return 'nothing';
  if (!stats.isSocket()) return 'not-a-socket';
  return connects(path);
}

function connects(path: string): Promise<'nothing' | 'stale' | 'live'> {
  return new Promise((resolve) => {
    const socket = createConnection({ path });
    socket.on('connect', () => {
      socket.destroy();
      resolve('live');
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED') resolve('stale');
      else if (error.code === 'ENOENT') resolve('nothing');
      else resolve('live');
    });
  });
}
