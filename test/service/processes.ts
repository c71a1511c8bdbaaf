/** Real processes of this program, watched by tests. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../..');
const BUNDLE = path.join(root, 'dist/kms-plugin.cjs');
const TSX = path.join(root, 'node_modules/tsx/dist/esm/index.mjs');

/** How the job, the image and scripts/run start Node for the plugin process. */
export const HARDENED = ['--disable-proto=throw', '--no-addons'];

export interface Line {
  readonly level: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

/** A process that writes a log. */
export class Watched {
  readonly child: ChildProcess;
  readonly #ended: Promise<number | string>;
  stdout = '';
  stderr = '';

  constructor(args: readonly string[], environment: NodeJS.ProcessEnv = {}) {
    this.child = spawn(process.execPath, [...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { PATH: process.env['PATH'], ...environment },
    });
    this.child.stdout?.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()));
    this.child.stderr?.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
    this.#ended = new Promise((resolve) => this.child.on('close', (code, signal) => resolve(code ?? signal ?? '')));
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  lines(): Line[] {
    const whole = this.stdout.slice(0, this.stdout.lastIndexOf('\n') + 1);
    return whole
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Line);
  }

  /** Resolves with the first line whose message matches. */
  async said(pattern: RegExp, milliseconds = 15_000): Promise<Line> {
    const end = performance.now() + milliseconds;
    for (;;) {
      const line = this.lines().find(({ message }) => pattern.test(message));
      if (line !== undefined) return line;
      if (performance.now() > end || this.child.exitCode !== null) {
        throw new Error(`no line ${String(pattern)} (exit ${this.child.exitCode}):\n${this.stdout}\n${this.stderr}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Exit code or signal. */
  ended(): Promise<number | string> {
    return this.#ended;
  }

  async stop(): Promise<number | string> {
    this.child.kill('SIGTERM');
    return this.ended();
  }

  kill(): void {
    if (this.child.exitCode === null) this.child.kill('SIGKILL');
  }
}

/** `serve` with the real listeners and a keyring without an HSM. */
export function fakeService(config: string, availability: 'ready' | 'away' | 'slow' = 'ready'): Watched {
  return new Watched(['--import', TSX, path.join(import.meta.dirname, 'fake-service.ts'), config, availability]);
}

/** The bundled program. */
export function program(...args: string[]): Watched {
  return new Watched([...HARDENED, BUNDLE, ...args]);
}

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a verb of the bundled program to its end. */
export function verb(...args: string[]): Ran {
  return spawnSync(process.execPath, [...HARDENED, BUNDLE, ...args], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'] },
    timeout: 30_000,
  });
}

/** The same beside other work of this process. */
export async function running(...args: string[]): Promise<Ran> {
  const ran = program(...args);
  const timer = setTimeout(() => ran.kill(), 60_000);
  const status = await ran.ended();
  clearTimeout(timer);
  return { status: typeof status === 'number' ? status : null, stdout: ran.stdout, stderr: ran.stderr };
}
