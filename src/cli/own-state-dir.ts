import { statSync } from 'node:fs';
import { CommandError } from './command.ts';

/**
 * A verb that writes to state_dir must run as its owner: a lock or a memory that root made there could not be opened by
 * the service any more, which then could not log in.
 */
export function requireOwnStateDir(stateDir: string): void {
  const found = statSync(stateDir, { throwIfNoEntry: false });
  const uid = process.getuid?.();
  if (found === undefined || uid === undefined || found.uid === uid) return;
  throw new CommandError(
    `state_dir ${stateDir} belongs to user ${found.uid}, this is user ${uid}: ` +
      `run the command as that user, e.g. with setpriv --reuid=${found.uid} --regid=${found.gid} --clear-groups`,
  );
}
