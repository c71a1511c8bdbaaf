import { readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { failure, ok, warning, type Check } from '../types.ts';

/** No host ran this program before, in years. */
const EARLIEST = 2026;
/** Further in the future than another host's clock may be, in milliseconds. */
const SKEW_MS = 300_000;
const MEND =
  'set the clock (timedatectl, chronyc makestep) and see whether it is kept in time; then restart the service';

/** This host's clock, on which certificates and logs depend. */
export const clock: Check = {
  name: 'clock',
  async run(facts) {
    const now = facts.around.now();
    const shown = now.toISOString();
    if (now.getUTCFullYear() < EARLIEST) return [failure(`it is ${shown} on this host: the clock is wrong`, MEND)];
    const service = await facts.service();
    if (service.kind === 'up' && Date.parse(service.status.started) > now.getTime() + SKEW_MS) {
      return [
        failure(`it is ${shown}, before the service started (${service.status.started}): the clock was set back`, MEND),
      ];
    }
    const newest = facts.place === undefined ? undefined : newestFile(facts.place.stateDir);
    if (newest !== undefined && newest.at > now.getTime() + SKEW_MS) {
      return [
        failure(
          `it is ${shown}, before ${newest.file} was written (${new Date(newest.at).toISOString()}): the clock was set back`,
          MEND,
        ),
      ];
    }
    const far = now.getUTCFullYear() > EARLIEST + 30;
    return far ? [warning(`it is ${shown} on this host`, MEND)] : [ok(`${shown}, which fits what was written before`)];
  },
};

function newestFile(directory: string): { readonly file: string; readonly at: number } | undefined {
  try {
    const times = readdirSync(directory).flatMap((name) => {
      const file = path.join(directory, name);
      const at = statSync(file, { throwIfNoEntry: false })?.mtimeMs;
      return at === undefined ? [] : [{ file, at }];
    });
    return times.toSorted((a, b) => b.at - a.at)[0];
  } catch {
    return undefined;
  }
}
