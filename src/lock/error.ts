import { lstatSync } from 'node:fs';
import path from 'node:path';

/** The file of a lock cannot be opened. `message` is for operators: what, why, and what to do. */
export class LockFileError extends Error {
  readonly path: string;
  /** The system's own (EROFS, ELOOP …), when it is that which refused. */
  readonly code: string | undefined;

  constructor(file: string, cause?: NodeJS.ErrnoException) {
    super(explain(file, cause), cause === undefined ? undefined : { cause });
    this.name = 'LockFileError';
    this.path = file;
    this.code = cause?.code;
  }
}

function explain(file: string, { code, message }: Partial<NodeJS.ErrnoException> = {}): string {
  const directory = path.dirname(file);
  switch (code) {
    case undefined:
    case 'EISDIR':
      return `${file} must be a regular file to serve as a lock: remove what is there`;
    case 'ELOOP':
      return isLink(file)
        ? `${file} is a symbolic link, and a lock must not lead elsewhere: remove it (rm ${file}), the file is made anew`
        : `${file} cannot be reached: symbolic links on the way to it lead round in a circle (${code})`;
    case 'EROFS':
      return (
        `${file} cannot be opened: the file system of ${directory} is read-only (${code}); make it writable again ` +
        '(dmesg tells why a kernel makes a disk read-only), or give a directory on another one'
      );
    case 'ENOSPC':
    case 'EDQUOT':
      return `${file} cannot be made: the file system is full (${code}); make room (df ${directory}; df -i ${directory})`;
    case 'EACCES':
    case 'EPERM':
      return `user ${process.geteuid?.() ?? ''} may not open ${file} (${code}): give it and ${directory} to the user that runs the service`;
    case 'ENOENT':
      return `${file} cannot be made: there is no directory ${directory} (${code}); make it, writable for this user`;
    default:
      return `${file} cannot be opened: ${message ?? code}`;
  }
}

function isLink(file: string): boolean {
  try {
    return lstatSync(file).isSymbolicLink();
  } catch {
    return false;
  }
}
