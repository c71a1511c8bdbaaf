import { statfs } from 'node:fs/promises';
import path from 'node:path';
import { lookAt } from '../look/files.ts';
import { NO_RIGHT, NO_ROOM, writingTrouble } from '../look/writing.ts';
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
    const there = lookAt(stateDir);
    if (there.kind === 'absent') return [unseen('state_dir is not there', 'the first start makes it')];
    if (there.kind === 'hidden') return [unseen(`this user may not look at state_dir (${there.code})`, AS_OWNER)];
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

/** A quota shows in no count of free blocks. What else keeps state_dir from being written, its own check names. */
async function writable(directory: string): Promise<Finding[]> {
  const trouble = await writingTrouble(directory);
  const code = trouble?.code ?? '';
  if (trouble === undefined || !(NO_ROOM.has(code) || NO_RIGHT.has(code))) return [];
  const mend = NO_RIGHT.has(code) ? AS_OWNER : `make room, or raise the quota (df ${directory}; quota)`;
  return [failure(`nothing can be written to state_dir ${directory} (${code})`, mend)];
}
