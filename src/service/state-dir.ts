import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';

/** A start that cannot go on; `message` is for operators. */
export class StartError extends Error {
  override readonly name = 'StartError';
}

/**
 * Refuses to work as root in a state_dir (or, before it exists, under a directory) of another user: locks and memories
 * that root made there could not be opened by the service any more, which then could not log in.
 */
export function requireOwner(stateDir: string): void {
  if (process.getuid?.() !== 0) return;
  const look = { throwIfNoEntry: false } as const;
  const found = statSync(stateDir, look) ?? statSync(path.dirname(stateDir), look);
  if (found === undefined || found.uid === 0) return;
  throw new StartError(
    `state_dir ${stateDir} belongs to user ${found.uid} and this is root: run it as that user, ` +
      `e.g. with setpriv --reuid=${found.uid} --regid=${found.gid} --init-groups`,
  );
}

/**
 * Makes state_dir with mode 0700 when it is missing; its parents must exist, since a wrong path is likelier than a
 * missing one. Gives a warning when others may enter a directory that was there already.
 */
export function prepareStateDir(stateDir: string): string | undefined {
  requireOwner(stateDir);
  try {
    mkdirSync(stateDir, { mode: 0o700 });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== 'EEXIST') {
      const mend =
        code === 'EROFS'
          ? 'make its file system writable again (dmesg tells why a kernel makes a disk read-only), or set another state_dir'
          : 'make its parent directory, writable for this user, or set another state_dir';
      throw new StartError(`cannot make state_dir ${stateDir} (${message}): ${mend}`);
    }
  }
  const found = statSync(stateDir);
  if (!found.isDirectory()) throw new StartError(`state_dir ${stateDir} is not a directory: move it away`);
  if ((found.mode & 0o077) === 0) return undefined;
  const mode = (found.mode & 0o777).toString(8).padStart(4, '0');
  return `state_dir ${stateDir} has mode ${mode}: only its owner should reach it; chmod 0700`;
}
