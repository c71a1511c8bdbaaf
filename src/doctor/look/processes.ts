import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';

/** What /proc tells of one process (proc(5)). Every answer is undefined where this user may not look. */
export class Process {
  readonly pid: number;
  readonly #directory: string;

  constructor(proc: string, pid: number) {
    this.pid = pid;
    this.#directory = path.join(proc, String(pid));
  }

  /** A file of its directory. */
  read(name: string): string | undefined {
    try {
      return readFileSync(path.join(this.#directory, name), 'utf8');
    } catch {
      return undefined;
    }
  }

  /** A line of `status`, such as Uid. */
  field(name: string): string | undefined {
    return new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(this.read('status') ?? '')?.[1];
  }

  /** The number that it has in its own pid namespace, which is how a program in a container calls itself. */
  get innerPid(): number | undefined {
    const last = this.field('NSpid')?.split(/\s+/).at(-1);
    return last === undefined ? undefined : Number(last);
  }

  /** The effective user. */
  get user(): number | undefined {
    const effective = this.field('Uid')?.split(/\s+/)[1];
    return effective === undefined ? undefined : Number(effective);
  }

  /** By SIGSTOP, or by a debugger. */
  get isStopped(): boolean {
    return /^t/i.test(this.field('State') ?? '');
  }

  /** Why it cannot answer, if the kernel knows: stopped, or waiting in the kernel for a disk or a driver. */
  get stuck(): string | undefined {
    const state = this.field('State')?.charAt(0);
    if (this.isStopped) return 'is stopped (SIGSTOP, or a debugger)';
    if (state === 'Z') return 'has ended and is a zombie';
    return state === 'D' ? 'waits in the kernel, for a disk or a driver' : undefined;
  }

  /** Resident memory, as ps(1) shows it. */
  get residentBytes(): number | undefined {
    const kilobytes = this.field('VmRSS')?.split(' ')[0];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
  }

  get arguments(): readonly string[] {
    return (this.read('cmdline') ?? '').split('\0').slice(0, -1);
  }

  /** Seconds since its start. */
  age(proc: string): number | undefined {
    // Field 22, in clock ticks since boot; the name before it may hold blanks, but ends at the last parenthesis.
    const started = Number(this.read('stat')?.replace(/^.*\)/s, '').trim().split(' ')[19]);
    const uptime = Number(readText(path.join(proc, 'uptime'))?.split(' ')[0]);
    const TICKS = 100;
    return Number.isFinite(started) && Number.isFinite(uptime) ? uptime - started / TICKS : undefined;
  }

  /** What the kernel's scheduler gave its main thread since its start: milliseconds on a processor, and waiting for one. */
  get scheduled(): { readonly ranMs: number; readonly waitedMs: number } | undefined {
    const [ran, waited] = (this.read('schedstat') ?? '').trim().split(' ').map(Number);
    if (ran === undefined || waited === undefined || Number.isNaN(ran + waited)) return undefined;
    return { ranMs: ran / 1e6, waitedMs: waited / 1e6 };
  }

  /** Soft limit by its name in /proc/PID/limits; Infinity for unlimited. */
  limit(name: string): number | undefined {
    const value = new RegExp(`^${name}\\s+(\\S+)`, 'm').exec(this.read('limits') ?? '')?.[1];
    return value === undefined ? undefined : value === 'unlimited' ? Infinity : Number(value);
  }

  /** How many descriptors are open. */
  get descriptors(): number | undefined {
    try {
      return readdirSync(path.join(this.#directory, 'fd')).length;
    } catch {
      return undefined;
    }
  }

  /** Whether one of its descriptors is the socket with that inode number. */
  hasSocket(inode: string): boolean {
    return this.#openAs((link) => link === `socket:[${inode}]`).length > 0;
  }

  /** What /proc/PID/fdinfo tells of those of its descriptors that are a file of that name, in whatever mount namespace. */
  descriptorsOf(file: string): string[] {
    const name = path.basename(file);
    return this.#openAs((link) => path.basename(link) === name).map((number) => this.read(`fdinfo/${number}`) ?? '');
  }

  /** The numbers of its descriptors that are open as such. */
  #openAs(isWanted: (link: string) => boolean): string[] {
    try {
      const directory = path.join(this.#directory, 'fd');
      return readdirSync(directory).filter((number) => isWanted(linkOf(path.join(directory, number))));
    } catch {
      return [];
    }
  }
}

export function allProcesses(proc: string): Process[] {
  try {
    return readdirSync(proc)
      .filter((name) => /^\d+$/.test(name))
      .map((name) => new Process(proc, Number(name)));
  } catch {
    return [];
  }
}

export function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function linkOf(file: string): string {
  try {
    return readlinkSync(file);
  } catch {
    return '';
  }
}
