import { X509Certificate } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Facts } from '../facts.ts';
import type { Process } from '../look/processes.ts';
import { age } from '../words.ts';
import { failure, ok, warning, type Check } from '../types.ts';

/** No host ran this program before, in years. */
const EARLIEST = 2026;
/** Further in the future than another host's clock may be, in milliseconds. */
const SKEW_MS = 300_000;
const SET = 'set it (timedatectl, chronyc makestep) and see whether it is kept in time';
const MEND = `compare with another clock (date -u; chronyc tracking): if this one is wrong, ${SET}`;

/** This host's clock, on which certificates and logs depend. */
export const clock: Check = {
  name: 'clock',
  async run(facts) {
    const now = facts.around.now();
    const shown = now.toISOString();
    if (now.getUTCFullYear() < EARLIEST) return [failure(`it is ${shown} on this host: the clock is wrong`, MEND)];
    const service = await facts.service();
    const moved =
      service.kind === 'up' ? sinceStart(facts, service.status.started, await facts.pluginProcess()) : undefined;
    if (moved !== undefined && moved < -SKEW_MS)
      return [
        failure(`it is ${shown}: the clock was set back by ${age(-moved / 1000)} since the service started`, MEND),
      ];
    const newest = facts.place === undefined ? undefined : newestFile(facts.place.stateDir);
    if (newest !== undefined && newest.at > now.getTime() + SKEW_MS) {
      return [
        failure(
          `it is ${shown}, before ${newest.file} was written (${new Date(newest.at).toISOString()}): the clock was set back`,
          MEND,
        ),
      ];
    }
    const ahead =
      moved !== undefined && moved > SKEW_MS ? `, set forward by ${age(moved / 1000)} since the service started` : '';
    const runOut = runOutBefore(facts, now);
    if (runOut !== undefined)
      return [
        warning(
          `it is ${shown}${ahead}, and ${runOut.file} ran out on ${runOut.until.toISOString()}: it is old, or the clock is ahead`,
          `compare with another clock (date -u; chronyc tracking): if this one is wrong, ${SET}; else renew the certificate`,
        ),
      ];
    if (ahead !== '')
      return [
        warning(
          `it is ${shown}${ahead}`,
          `compare with another clock (date -u; chronyc tracking): if this one is wrong, ${SET}`,
        ),
      ];
    const far = now.getUTCFullYear() > EARLIEST + 30;
    return far ? [warning(`it is ${shown} on this host`, MEND)] : [ok(`${shown}, which fits what was written before`)];
  },
};

/** By how many milliseconds this clock has moved against the kernel's own count of time since the plugin process began. */
function sinceStart({ around }: Facts, started: string, process: Process | undefined): number | undefined {
  const seconds = process?.age(around.proc);
  return seconds === undefined ? undefined : around.now().getTime() - seconds * 1_000 - Date.parse(started);
}

/** A certificate of the configuration that is not valid any more by this clock, whatever else is wrong with the file. */
function runOutBefore({ place }: Facts, now: Date): { readonly file: string; readonly until: Date } | undefined {
  return (place?.certificateFiles ?? []).flatMap((file) => {
    try {
      const until = new Date(new X509Certificate(readFileSync(file)).validTo);
      return until < now ? [{ file, until }] : [];
    } catch {
      return [];
    }
  })[0];
}

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
