import type { Facts } from '../facts.ts';
import { barrier, lookThrough } from '../look/files.ts';
import { socketName } from '../look/listening.ts';
import { NO_RIGHT, NO_ROOM, writingTrouble } from '../look/writing.ts';
import { failure, ok, unseen, type Check, type Finding } from '../types.ts';
import { AS_OWNER, octal, RESTART, START } from '../words.ts';

/** state_dir: there, the plugin's own, and writable. Whether others reach it is a matter of access, its room one of disk. */
export const stateDir: Check = {
  name: 'state_dir',
  async run(facts) {
    if (facts.place === undefined) return [unseen('the configuration does not say where it is')];
    const { stateDir: directory } = facts.place;
    const found = lookThrough(directory);
    if (found.kind === 'absent') return [absent(facts, directory)];
    if (found.kind === 'hidden') return [hidden(directory, found.code)];
    const owner = found.stats.uid;
    const running = (await facts.pluginProcess())?.user;
    const self = process.geteuid?.() ?? 0;
    if (owner === (running ?? self))
      return [(await unwritable(facts, directory, owner)) ?? ok(`${directory} is the plugin's own`)];
    // The directory is what its owner's plugin has remembered: nothing but a person knows which of the two users is wrong.
    if (running === undefined) {
      const seen = `${directory} belongs to user ${owner}, and this is user ${self}`;
      return [unseen(`whether the plugin can write there: ${seen}`, asUser(owner))];
    }
    const seen = `${directory} belongs to user ${owner}, and the plugin runs as user ${running}`;
    return [
      failure(seen, `run the plugin as user ${owner}; only if that is the wrong one: chown -R ${running} ${directory}`),
    ];
  },
};

const asUser = (uid: number): string =>
  `run doctor as that user (setpriv --reuid ${uid} --clear-groups kms-plugin doctor; BOSH: the job's own kms-plugin does it)`;

function hidden(directory: string, code: string): Finding {
  const found = barrier(directory);
  const where =
    found === undefined
      ? ''
      : `: ${found.directory} belongs to user ${found.stats.uid}, mode ${octal(found.stats.mode)}`;
  const seen = `user ${process.geteuid?.() ?? '?'} cannot reach ${directory} (${code})${where}`;
  return failure(seen, `${AS_OWNER}; if this is that user, let it enter the directory`);
}

/** Without its locks the plugin does not start. */
async function unwritable(facts: Facts, directory: string, user: number): Promise<Finding | undefined> {
  const trouble = await writingTrouble(directory);
  const code = trouble?.code ?? '';
  if (trouble === undefined) return undefined;
  if (NO_ROOM.has(code)) {
    // One that runs goes on; one that does not may be unable to start for that very reason.
    if (facts.serveLockHeld) return undefined;
    const seen = `there is no room in ${directory} (${code}), and the plugin is not running`;
    return failure(seen, `make room on that file system (df ${directory}), then ${START}`);
  }
  // It says something about this user only.
  if (NO_RIGHT.has(code) && user !== process.geteuid?.()) return undefined;
  const mend =
    code === 'EROFS'
      ? 'its file system is read-only: make it writable again (dmesg tells why a kernel makes a disk read-only), or set another state_dir'
      : `chmod u+rwx ${directory}, or set another state_dir`;
  return failure(`nothing can be written to ${directory} (${code || trouble.message})`, mend);
}

/** Before the first start there is none; under a service that runs it must not go. */
function absent(facts: Facts, directory: string): Finding {
  const serves = facts.config?.listeners.some(({ endpoint }) => facts.listenersAt(socketName(endpoint)).length > 0);
  if (serves !== true) return unseen(`${directory} is not there yet`, 'the first start makes it');
  const mend = `${RESTART}; what it remembered is lost: the PIN is tried once more, keys with create: true may be made again`;
  return failure(`${directory} was removed under the running service`, mend);
}
