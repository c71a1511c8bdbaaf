import type { Process } from './look/processes.ts';

/** Mends that several checks give, in one wording. */

export const START =
  'start it (BOSH: monit start kms-plugin; else kms-plugin serve), and look at its log if it ends again';
export const RESTART = 'restart it (BOSH: monit restart kms-plugin)';
export const AGAIN = 'run doctor again in a minute, or when the host is quieter';
export const RELOAD = 'run kms-plugin reload';
/**
 * For a process that does not answer. One that the kernel holds goes on as it was; a restart is named only for one of
 * which nothing else is known, and after a second look: under the envelope scheme it throws the data keys away.
 */
export function letGoOn(process: Process | undefined): string {
  if (process?.isStopped === true) return `let it go on (kill -CONT ${process.pid}): nothing is lost`;
  if (process?.stuck !== undefined) return 'see what it waits for (dmesg; is a disk or a file system stuck?)';
  return `run doctor again in a minute; if it hangs then too, keep its log, then ${RESTART}`;
}

export const AS_OWNER =
  'run doctor as the user that runs the service (BOSH: sudo /var/vcap/jobs/kms-plugin/bin/kms-plugin doctor)';

/** "2.5 s", "12 s": for people, so never with more than one digit behind the point. */
export const seconds = (milliseconds: number): string =>
  `${milliseconds < 10_000 ? Math.round(milliseconds / 100) / 10 : Math.round(milliseconds / 1_000)} s`;

export const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, '0');

const MEBIBYTE = 1 << 20;

/** "512.3 MiB"; from 10 GiB on "71.9 GiB". */
export function size(bytes: number): string {
  const [unit, name] = bytes < 10 * 1024 * MEBIBYTE ? [MEBIBYTE, 'MiB'] : [1024 * MEBIBYTE, 'GiB'];
  return `${Math.round((bytes / unit) * 10) / 10} ${name}`;
}

/** "42 s", "12 min", "30 h", "12 d": short, and never 0 of something that has begun. */
export function age(seconds: number): string {
  if (seconds < 60) return `${Math.max(1, Math.floor(seconds))} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 2 * 86_400 ? `${Math.floor(seconds / 3_600)} h` : `${Math.floor(seconds / 86_400)} d`;
}
