import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { KmsError } from '../../../src/errors/index.ts';
import type { Host } from './installation.ts';

export interface LoadReport {
  readonly encrypts: number;
  readonly decrypts: number;
  /** Of each kind, how many callers got it. */
  readonly errors: Readonly<Record<string, number>>;
  /** `performance.now()` of each error, in order. */
  readonly errorTimes: readonly number[];
  /** `performance.now()` of each good answer, in order. */
  readonly goodTimes: readonly number[];
  readonly longestMs: number;
}

const SIZES = [0, 1, 15, 16, 17, 32, 100, 1_000];

/** Callers that encrypt and decrypt without a pause, and compare every plaintext. Any that is wrong ends in an error 'wrong'. */
export class Load {
  readonly #host: Host;
  readonly #callers: Promise<void>[] = [];
  readonly #kept: { plaintext: Buffer; ciphertext: Buffer }[] = [];
  readonly #errors: Record<string, number> = {};
  readonly #errorTimes: number[] = [];
  readonly #goodTimes: number[] = [];
  #encrypts = 0;
  #decrypts = 0;
  #longestMs = 0;
  #running = true;

  constructor(host: Host, callers = 16) {
    this.#host = host;
    for (let caller = 0; caller < callers; caller++) this.#callers.push(this.#call(caller));
  }

  /** Every value with its ciphertext. */
  get kept(): readonly { readonly plaintext: Buffer; readonly ciphertext: Buffer }[] {
    return this.#kept;
  }

  get errorCount(): number {
    return this.#errorTimes.length;
  }

  /** Good answers so far. */
  get good(): number {
    return this.#goodTimes.length;
  }

  /** Lets the calls under way end. */
  async stop(): Promise<LoadReport> {
    this.#running = false;
    await Promise.all(this.#callers);
    return {
      encrypts: this.#encrypts,
      decrypts: this.#decrypts,
      errors: this.#errors,
      errorTimes: this.#errorTimes,
      goodTimes: this.#goodTimes,
      longestMs: Math.round(this.#longestMs),
    };
  }

  async #call(caller: number): Promise<void> {
    for (let turn = caller; this.#running; turn++) {
      const started = performance.now();
      try {
        await this.#turn(turn);
        this.#goodTimes.push(performance.now());
      } catch (error) {
        const kind = error instanceof KmsError ? error.kind : String(error);
        // A test that failed has closed its hosts, and nobody stops this load any more.
        if (kind === 'shutting-down') return;
        this.#errors[kind] = (this.#errors[kind] ?? 0) + 1;
        this.#errorTimes.push(performance.now());
        // What a client does that got an error.
        await sleep(20);
      }
      this.#longestMs = Math.max(this.#longestMs, performance.now() - started);
      // Never faster than a real HSM would let it, so that a test's load is not a test of this machine.
      await sleep(2);
    }
  }

  async #turn(turn: number): Promise<void> {
    const known = this.#kept[turn % Math.max(1, this.#kept.length)];
    if (turn % 2 === 0 || known === undefined) {
      const plaintext = randomBytes(SIZES[turn % SIZES.length] ?? 0);
      const ciphertext = await this.#host.encrypt(plaintext);
      this.#encrypts++;
      if (this.#kept.length < 2_000) this.#kept.push({ plaintext, ciphertext });
      return;
    }
    const plaintext = await this.#host.decrypt(known.ciphertext);
    this.#decrypts++;
    if (!plaintext.equals(known.plaintext)) throw new Error('wrong plaintext');
  }
}

/** Runs a load, does something to the token in the middle of it, and lets it end after `afterMs`. */
export async function underLoad(
  host: Host,
  disturb: () => void | Promise<void>,
  afterMs: number,
  callers = 16,
): Promise<LoadReport & { readonly disturbedAt: number }> {
  const load = new Load(host, callers);
  await sleep(150);
  const disturbedAt = performance.now();
  await disturb();
  await sleep(afterMs);
  return { ...(await load.stop()), disturbedAt };
}

/** One line for a test's output: what a fault cost the callers. */
export function summary(name: string, report: LoadReport): string {
  const errors = Object.values(report.errors).reduce((sum, count) => sum + count, 0);
  return `${name}: ${report.encrypts} encrypts, ${report.decrypts} decrypts, ${errors} errors ${JSON.stringify(report.errors)}, longest call ${report.longestMs} ms`;
}
