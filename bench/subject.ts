import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

/** One server under measurement: how it is started, where it listens. */
export interface Subject {
  readonly name: string;
  readonly tls: string;
  readonly plain: string;
  readonly process: ChildProcess | undefined;
}

/** Starts a program whose output goes nowhere but to the error's text when it ends early. */
export function start(command: readonly string[], environment: Readonly<Record<string, string>> = {}): ChildProcess {
  const child = spawn(command[0] ?? '', command.slice(1), {
    env: { ...process.env, ...environment },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => (text = (text + chunk.toString()).slice(-2000)));
  child.on('exit', (status, signal) => {
    if (status !== 0 && signal === null) console.error(`${command.join(' ')} ended with ${status ?? ''}: ${text}`);
  });
  return child;
}

/** The process and all that it has started. */
export function family(pid: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    const id = Number(name);
    if (!Number.isInteger(id)) continue;
    try {
      const stat = readFileSync(`/proc/${id}/stat`, 'utf8');
      parents.set(id, Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
    } catch {
      // It has ended meanwhile.
    }
  }
  const members = [pid];
  for (const member of members) for (const [id, parent] of parents) if (parent === member) members.push(id);
  return members;
}

/** Proportional memory (PSS) of processes in MiB. */
export function memoryMiB(pids: readonly number[]): number {
  let kilobytes = 0;
  for (const pid of pids) {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    kilobytes += Number(/^Pss:\s+(\d+)/m.exec(rollup)?.[1] ?? 0);
  }
  return kilobytes / 1024;
}

/** Processor seconds that processes have used, in user and system mode. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / 100;
}
