/** Looking at files that the configuration names, without changing anything and without waiting on one (FIFO). */
import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readSync,
  realpathSync,
  statSync,
  type Stats,
} from 'node:fs';
import path from 'node:path';

export interface FileTrouble {
  readonly trouble: string;
}

/**
 * Opens a regular file for reading, hands it to `use`, closes it. Opening is the test for "may be read": access(2)
 * asks for the real user, not for the effective one.
 */
export function withFile<T>(file: string, use: (descriptor: number, stats: Stats) => T): T | FileTrouble {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    const stats = fstatSync(descriptor);
    return stats.isFile() ? use(descriptor, stats) : { trouble: stats.isDirectory() ? 'is a directory' : 'is no file' };
  } catch (error) {
    return { trouble: explain(error, file) };
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

/** Reads a whole file; the caller zeroes the bytes of a secret. */
export function readSmallFile(
  file: string,
  maxBytes: number,
): { readonly bytes: Buffer; readonly mode: number } | FileTrouble {
  return withFile(file, (descriptor, { size, mode }) => {
    if (size > maxBytes) return { trouble: `is larger than ${maxBytes} bytes` };
    const bytes = Buffer.alloc(size);
    let filled = 0;
    while (filled < size) {
      const count = readSync(descriptor, bytes, filled, size - filled, filled);
      if (count === 0) break;
      filled += count;
    }
    return { bytes: bytes.subarray(0, filled), mode };
  });
}

/** Trouble with a directory that must be there; undefined when it is. */
export function directoryTrouble(directory: string): string | undefined {
  try {
    return statSync(directory).isDirectory() ? undefined : 'is no directory';
  } catch (error) {
    return explain(error, directory);
  }
}

/** The same of one in which this process makes files: a right that it lacks there is trouble, too. */
export function workingDirectoryTrouble(directory: string): string | undefined {
  const trouble = directoryTrouble(directory);
  if (trouble !== undefined) return trouble;
  try {
    accessSync(directory, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    // A file system that is read-only or in trouble is no matter of the configuration.
    if (code !== 'EACCES' && code !== 'EPERM') return undefined;
    const { uid, mode } = statSync(directory);
    const facts = `it belongs to user ${uid}, mode ${(mode & 0o7777).toString(8).padStart(4, '0')}`;
    return `cannot be entered or written to by user ${process.geteuid?.() ?? 'of this process'} (${code}; ${facts})`;
  }
}

/** What stands under a name itself (a link is not followed); undefined when nothing does or it cannot be seen. */
export function lookAt(file: string): Stats | undefined {
  try {
    return lstatSync(file, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** The directory's one true name, links resolved as far as they exist. */
export function trueDirectory(directory: string): string {
  try {
    return realpathSync(directory);
  } catch {
    const parent = path.dirname(directory);
    return parent === directory ? directory : path.join(trueDirectory(parent), path.basename(directory));
  }
}

function explain(error: unknown, file: string): string {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
  switch (code) {
    case 'ENOENT':
      return isThere(path.dirname(file)) ? 'does not exist' : `does not exist, nor does its directory`;
    case 'EACCES':
    case 'EPERM':
      return `may not be read by user ${process.geteuid?.() ?? 'of this process'}`;
    case 'ENOTDIR':
      return 'does not exist (a part of its path is no directory)';
    case 'ELOOP':
      return 'is a link that leads round in a circle';
    default:
      return `cannot be read (${code})`;
  }
}

function isThere(directory: string): boolean {
  try {
    return statSync(directory, { throwIfNoEntry: false }) !== undefined;
  } catch {
    return true;
  }
}
