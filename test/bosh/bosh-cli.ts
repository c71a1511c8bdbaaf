import { spawnSync } from 'node:child_process';

const { status, stdout } = spawnSync('bosh', ['--version'], { encoding: 'utf8' });

/** Why tests that need the bosh CLI do not run here, or false. Debian's program of the same name does not count. */
export const noBosh = status === 0 && stdout.startsWith('version ') ? false : 'the bosh CLI is not on the PATH';
