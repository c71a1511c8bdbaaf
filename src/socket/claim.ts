import { once } from 'node:events';
import { lstatSync } from 'node:fs';
import { access, chmod, constants, lstat, rename, stat, unlink } from 'node:fs/promises';
import type { Server } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type FileLock, LockFileError, LockHeldError, lockFile } from '../lock/index.ts';
import { SocketError } from './error.ts';
import { lookAt } from './look.ts';
import { removeStaleTemporaries, temporaryName } from './temporary.ts';

/** An absolute path, or an abstract name without its leading NUL (unix(7)). */
export type SocketEndpoint =
  { readonly kind: 'path'; readonly path: string } | { readonly kind: 'abstract'; readonly name: string };

export interface ClaimOptions {
  /** Permission bits of the socket file, e.g. 0o600. An abstract name has none. */
  readonly mode: number;
  /** How long to wait for the directory's socket.lock, in milliseconds. */
  readonly lockWaitMs?: number;
}

/**
 * What stands under a claimed name. 'ours': the socket that this process listens on; an abstract name always is. 'gone':
 * nothing. 'taken': another socket or file. A system error's message when the name cannot be looked at.
 */
export type Standing = 'ours' | 'gone' | 'taken' | { readonly trouble: string };

/** A socket that this process listens on. */
export interface SocketClaim {
  /** Whether clients find it under its name. Never throws, whatever the file system says. */
  look(): Standing;
  /**
   * Removes the name, unless a successor has it by now, then stops listening. Connections stay. Never throws; resolves
   * when no new connection can come, within `lockWaitMs` or so. A second call waits for the first.
   */
  release(): Promise<void>;
}

const LOCK_WAIT_MS = 5_000;

/** Time to accept those who connected just before the name went, in milliseconds. */
const LAST_ACCEPTS_MS = 20;

/**
 * Makes `server` (a `net.Server`, `http.Server` …, not yet listening) listen at `endpoint`, so that of several processes
 * exactly one has it: under the lock `socket.lock` in the socket's own directory a name that nobody answers at is
 * replaced, a live one is left alone, and what is no socket is never touched. The socket is bound under a temporary name,
 * has its mode and listens before it appears under its own by rename(2): a client finds the old one, or a ready one. The
 * directory is neither made nor removed, since a container that has it mounted would keep the old one.
 *
 * Connections can come as soon as the promise resolves, or a moment before.
 *
 * @throws SocketError
 */
export async function claimSocket(
  server: Server,
  endpoint: SocketEndpoint,
  options: ClaimOptions,
): Promise<SocketClaim> {
  return endpoint.kind === 'path'
    ? claimPath(server, endpoint.path, options.mode, options.lockWaitMs ?? LOCK_WAIT_MS)
    : claimAbstract(server, endpoint.name);
}

/** The kernel frees an abstract name with its last descriptor, so it is never stale and needs no lock. */
async function claimAbstract(server: Server, name: string): Promise<SocketClaim> {
  const shown = `unix:///@${name}`;
  try {
    server.listen({ path: `\0${name}` });
    await once(server, 'listening');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EADDRINUSE') {
      throw new SocketError('in-use', shown, `${shown} is in use: another process listens there; stop it first`, error);
    }
    throw new SocketError('failed', shown, `cannot listen on ${shown}: ${(error as Error).message}`, error);
  }
  return claimOf(
    () => 'ours',
    () => stopListening(server),
  );
}

async function claimPath(server: Server, socketPath: string, mode: number, lockWaitMs: number): Promise<SocketClaim> {
  await requireDirectory(socketPath);
  const lock = await takeLock(socketPath, lockWaitMs);
  try {
    await requireFree(socketPath);
    await removeStaleTemporaries(socketPath);
    const temporary = temporaryName(socketPath);
    try {
      await listenAt(server, temporary, mode);
      const { dev, ino } = await lstat(temporary, { bigint: true });
      await rename(temporary, socketPath);
      const ours: Inode = { dev, ino };
      return claimOf(
        () => standingOf(socketPath, ours),
        async () => {
          await removeIfOurs(socketPath, ours, lockWaitMs);
          // Who has connected by the name waits to be accepted, and would be cut off.
          await sleep(LAST_ACCEPTS_MS);
          stopListening(server);
        },
      );
    } catch (error) {
      await unlink(temporary).catch(() => undefined);
      stopListening(server);
      throw error;
    }
  } catch (error) {
    if (error instanceof SocketError) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    throw new SocketError('failed', socketPath, `cannot listen on ${socketPath}: ${message}${mendOf(code)}`, error);
  } finally {
    lock.release();
  }
}

async function requireDirectory(socketPath: string): Promise<void> {
  const directory = path.dirname(socketPath);
  const name = path.basename(socketPath);
  const found = await stat(directory).catch((error: unknown) => error as NodeJS.ErrnoException);
  if (found instanceof Error) {
    const { code = 'unknown error' } = found;
    const isAbsent = code === 'ENOENT' || code === 'ENOTDIR';
    const why = isAbsent
      ? `does not exist (${code}): make it, writable for this user`
      : `cannot be reached (${code})${mendOf(code)}`;
    throw new SocketError('no-directory', socketPath, `the directory ${directory} of the socket ${name} ${why}`, found);
  }
  if (!found.isDirectory()) {
    const seen = `${directory}, where the socket ${name} belongs, is not a directory`;
    throw new SocketError('no-directory', socketPath, `${seen}: choose another endpoint, or move it away`);
  }
  try {
    await access(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    const seen = `the directory ${directory} of the socket ${name} cannot be written to or entered (${code})`;
    const facts = `it belongs to user ${found.uid}, mode ${(found.mode & 0o7777).toString(8).padStart(4, '0')}`;
    throw new SocketError('no-directory', socketPath, `${seen}: ${facts}${mendOf(code)}`, error);
  }
}

/** What to do about the system's refusal, for those that an operator can do something about. */
function mendOf(code: string | undefined): string {
  switch (code ?? '') {
    case 'EACCES':
    case 'EPERM':
      return `; give user ${process.geteuid?.() ?? 'of this process'} the right to enter that directory and to write there`;
    case 'EROFS':
      return '; its file system is read-only: choose a directory on another';
    case 'ENOSPC':
    case 'EDQUOT':
      return '; make room on its file system';
    default:
      return '';
  }
}

async function takeLock(socketPath: string, waitMs: number): Promise<FileLock> {
  const lockPath = path.join(path.dirname(socketPath), 'socket.lock');
  try {
    return await lockFile(lockPath, { waitMs });
  } catch (error) {
    if (error instanceof LockHeldError) {
      throw new SocketError(
        'locked',
        socketPath,
        `${lockPath} was held by another process for ${waitMs} ms: another plugin starts or stops there; try again`,
        error,
      );
    }
    const why =
      error instanceof LockFileError
        ? `cannot look at the socket ${socketPath}: ${error.message}`
        : `cannot lock ${lockPath}: ${(error as Error).message}; the socket's directory must be writable for this user`;
    throw new SocketError('failed', socketPath, why, error);
  }
}

async function requireFree(socketPath: string): Promise<void> {
  const found = await lookAt(socketPath);
  if (found === 'live') {
    throw new SocketError(
      'in-use',
      socketPath,
      `the socket ${socketPath} is in use: another process listens there, or it belongs to another user; stop that process first`,
    );
  }
  if (found === 'not-a-socket') {
    throw new SocketError(
      'not-a-socket',
      socketPath,
      `${socketPath} exists and is not a socket: it is left alone; move it away, or choose another path`,
    );
  }
}

/** Binds and listens with a mode that is never wider than `mode`: bind(2) applies the umask, which is ours for that moment. */
async function listenAt(server: Server, temporary: string, mode: number): Promise<void> {
  const before = process.umask(0o777 & ~mode);
  try {
    server.listen({ path: temporary });
  } finally {
    process.umask(before);
  }
  await once(server, 'listening');
  await chmod(temporary, mode);
}

/** A file's identity. That of a socket which is still open here cannot have been given to another. */
interface Inode {
  readonly dev: bigint;
  readonly ino: bigint;
}

const isSame = (one: Inode, other: Inode): boolean => one.dev === other.dev && one.ino === other.ino;

function standingOf(socketPath: string, ours: Inode): Standing {
  try {
    return isSame(lstatSync(socketPath, { bigint: true }), ours) ? 'ours' : 'taken';
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' || code === 'ENOTDIR' ? 'gone' : { trouble: message };
  }
}

/**
 * Without the lock a successor
 * could rename between look and removal: the name then stays, stale, and whoever comes next replaces it.
 */
async function removeIfOurs(socketPath: string, ours: Inode, lockWaitMs: number): Promise<void> {
  try {
    const lock = await lockFile(path.join(path.dirname(socketPath), 'socket.lock'), { waitMs: lockWaitMs });
    try {
      const there = await lstat(socketPath, { bigint: true });
      if (isSame(there, ours)) await unlink(socketPath);
    } finally {
      lock.release();
    }
  } catch {
    // Gone already, or not to be had: a stale name harms nobody.
  }
}

/** libuv unlinks the name it was bound under, the temporary one, which the rename has taken away. */
function stopListening(server: Server): void {
  if (server.listening) server.close();
}

function claimOf(look: () => Standing, end: () => Promise<void> | void): SocketClaim {
  let ended: Promise<void> | undefined;
  return { look, release: () => (ended ??= Promise.resolve(end())) };
}
