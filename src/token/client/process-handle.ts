import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync } from 'node:fs';
import type { Socket } from 'node:net';
import path from 'node:path';
import type { TokenConfig } from '../../config/index.ts';
import type { Log } from '../../log/index.ts';
import { Channel } from '../wire/channel.ts';
import type { Frame } from '../wire/frame.ts';
import { captureOutput } from './output-capture.ts';

/** Threads beyond one for each session, which its operation waits in: files and scrypt use the same pool. */
const SPARE_THREADS = 4;
const MOST_THREADS = 128;

/**
 * Requests come and go at once: a young generation that is small costs nothing here, and keeps the peak of memory low. Unlike
 * the plugin process this one needs addons.
 */
const NODE_FLAGS = ['--max-semi-space-size=1', '--disable-proto=throw'];

/**
 * Each login takes 16 MiB for scrypt, on whichever thread is free. By default glibc keeps them for that thread for ever:
 * 240 MiB after some logins. So large blocks are given back, and threads share what is left.
 */
const MALLOC_ENVIRONMENT = { MALLOC_MMAP_THRESHOLD_: '1048576', MALLOC_ARENA_MAX: '4' } as const;

export interface ProcessEvents {
  frame(frame: Frame): void;
  /** Once, when the process has ended or its channel broke. `how` is for the log. */
  ended(how: string): void;
}

/** The token process's program: in the bundle beside this one; when this runs from source, the bundle's built from it. */
function program(): string {
  const beside = path.join(import.meta.dirname, 'token-process.cjs');
  return existsSync(beside) ? beside : path.join(import.meta.dirname, '../../../dist/token-process.cjs');
}

/**
 * Where no descriptor is left spawn gives a child without any stdio, whatever its type says, and tells of the error later:
 * an 'error' that nobody listens for would end the plugin process. Throws an Error in this case.
 */
function refuseWithoutStdio(child: ChildProcess): void {
  const stdio = child.stdio as ChildProcess['stdio'] | undefined;
  if (stdio !== undefined) return;
  child.on('error', () => undefined);
  throw new Error(
    'too many files are open: raise the limit of open files; BOSH: kms-plugin.open_files, systemd: LimitNOFILE',
  );
}

/** One running token process and the channel to it. */
export class ProcessHandle {
  readonly channel: Channel;
  readonly started = new Date();
  readonly #child: ChildProcess;
  #ended = false;

  /** Throws when there are no means to start one. */
  constructor(config: TokenConfig, directory: string, log: Log, events: ProcessEvents) {
    this.#child = spawn(process.execPath, [...NODE_FLAGS, program()], {
      cwd: directory,
      env: {
        PATH: process.env['PATH'] ?? '/usr/bin:/bin',
        ...(process.env['HOME'] === undefined ? {} : { HOME: process.env['HOME'] }),
        ...MALLOC_ENVIRONMENT,
        ...config.environment,
        UV_THREADPOOL_SIZE: String(Math.min(MOST_THREADS, config.sessions + SPARE_THREADS)),
      },
      // The fourth is the socketpair. stdin and stdout are not used: a vendor's library may print.
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    });
    refuseWithoutStdio(this.#child);
    const { stdout, stderr } = this.#child;
    if (stdout !== null) captureOutput(stdout, 'stdout', log);
    if (stderr !== null) captureOutput(stderr, 'stderr', log);
    this.channel = new Channel(this.#child.stdio[3] as Socket, {
      frame: (frame) => events.frame(frame),
      broken: (reason) => {
        if (reason !== undefined) log.warn('the channel to the token process broke', { reason: reason.message });
        this.kill();
      },
    });
    const ended = (how: string): void => {
      if (this.#ended) return;
      this.#ended = true;
      this.channel.close();
      events.ended(how);
    };
    this.#child.on('error', (error) => ended(`it cannot be started: ${error.message}`));
    this.#child.on('exit', (status, signal) =>
      ended(signal === null ? `it exited with status ${status}` : `it ended by ${signal}`),
    );
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get ended(): boolean {
    return this.#ended;
  }

  kill(): void {
    if (!this.#ended) this.#child.kill('SIGKILL');
  }

  /** Ends the channel, so that sessions are given back; kills what has not ended within `milliseconds`. */
  async close(milliseconds: number): Promise<void> {
    if (this.#ended) return;
    const exited = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()));
    this.channel.close();
    // One that somebody has stopped (SIGSTOP) would hear of nothing, and neither would its watchdog.
    this.#child.kill('SIGCONT');
    const timer = setTimeout(() => this.kill(), milliseconds);
    await exited;
    clearTimeout(timer);
  }
}
