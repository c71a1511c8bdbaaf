/** Processes that keep every processor of this host busy. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism, loadavg } from 'node:os';

/** For each processor so many programs that want it, so that each gets a fifth of the time that it asks for. */
const FOR_EACH = 4;
/** Spins for as long as the process lives that started it. */
const SPIN = 'while kill -0 "$PPID"; do i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; done';

/**
 * As many as are missing to that load: a host that others keep busy needs fewer.
 * @returns what ends them.
 */
export function keepBusy(): () => Promise<void> {
  const missing = FOR_EACH * availableParallelism() - Math.floor(loadavg()[0] ?? 0);
  const spinning = Array.from({ length: Math.max(0, missing) }, (): ChildProcess =>
    spawn('sh', ['-c', SPIN], { stdio: 'ignore' }),
  );
  return async () => {
    await Promise.all(
      spinning.map(async (child) => {
        child.kill('SIGKILL');
        if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      }),
    );
  };
}
