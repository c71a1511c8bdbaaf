import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { LoginOutcome } from '../../src/token/pin/index.ts';
import { carryOut } from './login-process.ts';
import type { LoginOrder } from './login-process.ts';

type Wish = Omit<LoginOrder, 'stateDir' | 'counter'>;
type Kind<K extends LoginOutcome['kind']> = Extract<LoginOutcome, { kind: K }>;

/** A state_dir of its own, a count of C_Login calls, and processes that log in. */
export class Place {
  readonly root = mkdtempSync(join(tmpdir(), 'pin-test-'));
  readonly stateDir = join(this.root, 'state');
  readonly counter = join(this.root, 'calls');
  readonly memory = join(this.stateDir, 'pin-memory');
  readonly #children: ChildProcessByStdio<null, Readable, null>[] = [];

  constructor() {
    mkdirSync(this.stateDir);
  }

  remove(): void {
    for (const child of this.#children) child.kill('SIGKILL');
    rmSync(this.root, { recursive: true });
  }

  /** The PINs with which C_Login was called, in order. */
  calls(): readonly string[] {
    return existsSync(this.counter) ? readFileSync(this.counter, 'utf8').split('\n').slice(0, -1) : [];
  }

  /** Logs in within this process. */
  login(pin: string, wish: Omit<Wish, 'pin'> = {}): Promise<LoginOutcome> {
    return carryOut({ ...wish, pin, stateDir: this.stateDir, counter: this.counter });
  }

  start(wish: Wish): ChildProcessByStdio<null, Readable, null> {
    const order: LoginOrder = { ...wish, stateDir: this.stateDir, counter: this.counter };
    const script = join(import.meta.dirname, 'login-process.ts');
    const child = spawn(process.execPath, ['--import', 'tsx', script, JSON.stringify(order)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#children.push(child);
    return child;
  }

  /** Logs in within a process that is killed at a random moment: before, within or after the attempt. */
  async runAndKill(wish: Wish): Promise<void> {
    const child = this.start(wish);
    await once(child.stdout, 'data');
    setTimeout(() => child.kill('SIGKILL'), randomInt(0, 150));
    await once(child, 'close');
  }

  /** Logs in within a process of its own; undefined when that was killed. */
  async run(wish: Wish): Promise<LoginOutcome | undefined> {
    const child = this.start(wish);
    let text = '';
    child.stdout.on('data', (data: Buffer) => (text += data.toString()));
    const [, signal] = (await once(child, 'close')) as [number | null, string | null];
    if (signal !== null) return undefined;
    return JSON.parse(text.split('\n')[1] ?? '') as LoginOutcome;
  }
}

/** Asserts the outcome's kind and gives it back with that type. */
export function expectKind<K extends LoginOutcome['kind']>(outcome: LoginOutcome | undefined, kind: K): Kind<K> {
  assert.equal(outcome?.kind, kind, JSON.stringify(outcome));
  return outcome as Kind<K>;
}
