import { constants } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import path from 'node:path';

/** Codes of a file system on which there is no room: what is there can still be read and locked. */
export const NO_ROOM: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT']);
/** Codes of a right that this user lacks. */
export const NO_RIGHT: ReadonlySet<string> = new Set(['EACCES', 'EPERM']);

/**
 * Writes a block to a new file in `directory` and removes it: a full quota, a read-only mount and wrong owners show in no
 * mode.
 * @returns the system's error, undefined when it could be written.
 */
export async function writingTrouble(directory: string): Promise<NodeJS.ErrnoException | undefined> {
  const file = path.join(directory, `.doctor-${randomUUID()}`);
  try {
    const handle = await open(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      await handle.write(Buffer.alloc(4096));
      await handle.sync();
    } finally {
      await handle.close();
    }
    return undefined;
  } catch (error) {
    return error as NodeJS.ErrnoException;
  } finally {
    await rm(file, { force: true }).catch(() => undefined);
  }
}
