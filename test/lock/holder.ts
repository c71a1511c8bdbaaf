/** `holder.ts PATH WAIT_MS [child]`: takes the lock, says so on stdout, and keeps it until killed; `child`: starts a child first. */
import { spawn } from 'node:child_process';
import { LockHeldError, lockFile } from '../../src/lock/index.ts';

const [path = '', waitMs = '0', child] = process.argv.slice(2);

lockFile(path, { waitMs: Number(waitMs) }).then(
  () => {
    const pid = child === undefined ? 0 : spawn('sleep', ['600'], { stdio: 'ignore' }).pid;
    process.stdout.write(`held ${String(pid)}\n`);
    setInterval(() => undefined, 60_000);
  },
  (error: unknown) => process.stdout.write(error instanceof LockHeldError ? 'refused\n' : `${String(error)}\n`),
);
