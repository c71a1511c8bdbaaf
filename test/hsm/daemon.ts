import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';

/** A helper process that runs for as long as its fixture. */
export interface Daemon {
  readonly pid: number;
  stop(): Promise<void>;
}

/**
 * Starts a program in the foreground and waits until `ready` holds, at most 20 seconds. The kernel ends it with this
 * process, so that a killed test leaves nothing running.
 */
export async function startDaemon(
  command: readonly string[],
  ready: (pid: number) => boolean | Promise<boolean>,
  environment: Readonly<Record<string, string>> = {},
): Promise<Daemon> {
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', ...command], {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const failed = new Promise<never>((_, reject) => child.on('error', reject));
  failed.catch(() => undefined);
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
  const pid = child.pid ?? (await failed);
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await Promise.race([ended, sleep(5000, undefined, { ref: false })]);
    child.kill('SIGKILL');
    await ended;
  };
  const deadline = Date.now() + 20_000;
  while (!(await ready(pid))) {
    if (child.exitCode !== null || child.signalCode !== null || Date.now() > deadline) {
      await stop();
      throw new Error(`${command.join(' ')} did not become ready: ${output}`);
    }
    await sleep(10);
  }
  return { pid, stop };
}
