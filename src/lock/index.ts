import { spawn } from 'node:child_process';
import { closeSync, constants, fstatSync, lstatSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { LockFileError } from './error.ts';

export { LockFileError };

/**
 * Kernel locks (flock(2)), never pid files: pid numbers mean nothing across the pid namespaces of BPM and containers, and
 * the kernel frees a lock the moment its holder is gone, however it went.
 *
 * Node has no flock. A lock belongs to the open file description (flock(2)), which a child shares when it inherits the
 * descriptor: util-linux's `flock` takes it there and ends, and this process, which keeps the descriptor, holds it.
 */

/** Another process, or another lock of this one, kept the lock for the whole wait. */
export class LockHeldError extends Error {
  readonly path: string;

  constructor(path: string, waitMs: number) {
    super(`${path} is locked by another process${waitMs > 0 ? `, and still was after ${waitMs} ms` : ''}`);
    this.name = 'LockHeldError';
    this.path = path;
  }
}

/** A lock that this process holds until `release`, or until it ends. */
export interface FileLock {
  readonly path: string;
  /** Frees the lock; a second call does nothing. The file stays: removing it would let two processes lock two files. */
  release(): void;
}

/** Exit status that `flock` gives for "held by another": none that it, a shell or a signal gives for anything else. */
const HELD = 113;

/** How long `flock` may take beyond its wait before it is taken for stuck, in milliseconds. */
const GRACE_MS = 5_000;

/** Bounds the tries where files are replaced, or `flock` is killed, again and again. */
const MOST_TRIES = 100;

/** Where `flock` is looked for when there is no PATH. */
const USUAL_PATH = '/usr/bin:/bin:/usr/sbin:/sbin';

/**
 * Locks the file at `path` exclusively, waiting at most `waitMs` milliseconds (0: not at all). A missing file is created
 * with mode 0600; its directory must exist. The descriptor is close-on-exec, so no child keeps the lock.
 *
 * @throws LockHeldError when the wait is over.
 * @throws LockFileError when the file cannot be opened (with the system's `code`) or is no regular file.
 * @throws Error when the `flock` program is missing or fails.
 */
export async function lockFile(path: string, options: { waitMs: number }): Promise<FileLock> {
  const { waitMs } = options;
  const deadline = performance.now() + waitMs;
  for (let tries = 1; ; tries++) {
    const descriptor = open(path);
    let taken = false;
    let kept = false;
    try {
      taken = await takeLock(path, descriptor, Math.max(0, Math.ceil(deadline - performance.now())));
      kept = taken && isStillAt(path, descriptor);
    } finally {
      if (!kept) closeSync(descriptor);
    }
    if (kept) return holding(path, descriptor);
    // Taken but not kept: the file was replaced meanwhile, the new one may be free. Not taken before the time was over:
    // `flock` was ended by a signal, perhaps one for the whole process group.
    if ((!taken && performance.now() >= deadline) || tries === MOST_TRIES) throw new LockHeldError(path, waitMs);
    await sleep(20);
  }
}

/** A bare descriptor on purpose: Node closes a FileHandle that is garbage collected, and the lock would go with it. */
function open(path: string): number {
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600);
  } catch (error) {
    throw new LockFileError(path, error as NodeJS.ErrnoException);
  }
  if (fstatSync(descriptor).isFile()) return descriptor;
  closeSync(descriptor);
  throw new LockFileError(path);
}

/** Whether `path` still names the file that was opened: a lock on a removed or replaced file keeps nobody out. */
function isStillAt(path: string, descriptor: number): boolean {
  const named = lstatSync(path, { bigint: true, throwIfNoEntry: false });
  const opened = fstatSync(descriptor, { bigint: true });
  return named?.dev === opened.dev && named.ino === opened.ino;
}

/** Runs `flock` on the descriptor. False when another held the lock all the time, or a signal ended `flock`. */
function takeLock(path: string, descriptor: number, waitMs: number): Promise<boolean> {
  const wait = waitMs > 0 ? ['--timeout', (waitMs / 1000).toFixed(3)] : ['--nonblock'];
  return new Promise((resolve, reject) => {
    const child = spawn('flock', ['--exclusive', '--conflict-exit-code', String(HELD), ...wait, '3'], {
      // Nothing else of ours: a vendor's LD_LIBRARY_PATH or LD_PRELOAD is not for this program.
      env: { PATH: process.env['PATH'] ?? USUAL_PATH, LC_ALL: 'C' },
      cwd: '/',
      stdio: ['ignore', 'ignore', 'pipe', descriptor],
      timeout: waitMs + GRACE_MS,
      killSignal: 'SIGKILL',
    });
    let complaint = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => (complaint = (complaint + text).slice(0, 500)));
    child.on('error', (error: NodeJS.ErrnoException) =>
      reject(
        error.code === 'ENOENT'
          ? new Error(`cannot lock ${path}: the program flock is not on PATH; install the package util-linux`)
          : new Error(`cannot lock ${path}: the program flock does not start: ${error.message}`, { cause: error }),
      ),
    );
    child.on('close', (status) => {
      if (status === 0) resolve(true);
      else if (status === HELD || status === null) resolve(false);
      else reject(new Error(`cannot lock ${path}: flock ended with status ${status}: ${complaint.trim()}`));
    });
  });
}

function holding(path: string, descriptor: number): FileLock {
  let held = true;
  return {
    path,
    release: () => {
      if (held) closeSync(descriptor);
      held = false;
    },
  };
}
