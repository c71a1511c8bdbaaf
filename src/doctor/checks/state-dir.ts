import type { Facts } from '../facts.ts';
import { lookThrough } from '../look/files.ts';
import { socketName } from '../look/listening.ts';
import { NO_RIGHT, NO_ROOM, writingTrouble } from '../look/writing.ts';
import { failure, ok, unseen, type Check, type Finding } from '../types.ts';
import { AS_OWNER, RESTART } from '../words.ts';

/** state_dir: there, the plugin's own, and writable. Whether others reach it is a matter of access, its room one of disk. */
export const stateDir: Check = {
  name: 'state_dir',
  async run(facts) {
    if (facts.place === undefined) return [unseen('the configuration does not say where it is')];
    const { stateDir: directory } = facts.place;
    const found = lookThrough(directory);
    if (found === undefined) return [absent(facts, directory)];
    const user = (await facts.pluginProcess())?.user ?? process.geteuid?.() ?? 0;
    if (Number(found.uid) === user)
      return [(await unwritable(directory, user)) ?? ok(`${directory} is the plugin's own`)];
    const mend = `chown -R ${user} ${directory}`;
    return [
      failure(
        `${directory} belongs to user ${found.uid}, and the plugin runs as user ${user}`,
        user === process.geteuid?.() ? `${mend}, or ${AS_OWNER}` : mend,
      ),
    ];
  },
};

/** Without its locks the plugin does not start. A full disk is another matter: it goes on. */
async function unwritable(directory: string, user: number): Promise<Finding | undefined> {
  const trouble = await writingTrouble(directory);
  const code = trouble?.code ?? '';
  if (trouble === undefined || NO_ROOM.has(code)) return undefined;
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
