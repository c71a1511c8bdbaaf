import { constants } from 'node:fs';
import { open, rm, statfs } from 'node:fs/promises';
import path from 'node:path';
import { lookAt } from '../facts.ts';
import { failure, ok, unseen, warning, type Check, type Finding } from '../types.ts';
import { AS_OWNER, size } from '../words.ts';

/** state_dir needs a few files of some kilobytes and replaces them as a whole. */
const NEEDED_BYTES = 1 << 20;
const WARN_BYTES = 32 << 20;
const NEEDED_FILES = 16;

/** Room for what the plugin remembers, and for the audit trail. */
export const disk: Check = {
  name: 'disk',
  async run(facts) {
    if (facts.place === undefined) return [unseen('the configuration does not say where state_dir is')];
    const { stateDir } = facts.place;
    if (lookAt(stateDir) === undefined) return [unseen('state_dir is not there')];
    const audit = facts.config?.auditFile;
    return [
      ...(await room(
        'state_dir',
        stateDir,
        'the plugin goes on, but cannot remember a new PIN, a new key or its count of IVs',
      )),
      ...(await writable(stateDir)),
      ...(audit === undefined
        ? []
        : await room('the audit trail', path.dirname(audit), 'lines of the audit trail are lost')),
    ];
  },
};

async function room(what: string, directory: string, then: string): Promise<Finding[]> {
  try {
    const { bavail, bsize, files, ffree } = await statfs(directory);
    const free = bavail * bsize;
    const seen = `${what} (${directory}): ${size(free)} free`;
    if (free < NEEDED_BYTES) return [failure(`${seen}: ${then}`, `make room on that file system (df ${directory})`)];
    // A file system without a fixed number of inodes tells 0.
    if (files > 0 && ffree < NEEDED_FILES)
      return [
        failure(
          `${what} (${directory}): ${ffree} inodes free: ${then}`,
          `remove files on that file system (df -i ${directory})`,
        ),
      ];
    if (free < WARN_BYTES) return [warning(seen, `make room on that file system soon (df ${directory})`)];
    return [ok(seen)];
  } catch (error) {
    return [failure(`${what} (${directory}) cannot be looked at: ${(error as Error).message}`, AS_OWNER)];
  }
}

/** Tries it: a full quota, a read-only mount and wrong owners show in no mode. */
async function writable(directory: string): Promise<Finding[]> {
  const file = path.join(directory, `.doctor-${process.pid}`);
  try {
    const handle = await open(file, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      await handle.write(Buffer.alloc(4096));
      await handle.sync();
    } finally {
      await handle.close();
    }
    return [];
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? '';
    const mend =
      code === 'EACCES' || code === 'EPERM'
        ? AS_OWNER
        : 'make it writable again, or make room (dmesg tells why a kernel makes a disk read-only)';
    return [failure(`nothing can be written to state_dir ${directory} (${(error as Error).message})`, mend)];
  } finally {
    await rm(file, { force: true }).catch(() => undefined);
  }
}
