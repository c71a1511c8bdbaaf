import path from 'node:path';
import { FAULTS } from '../errors/index.ts';
import type { Log } from '../log/index.ts';
import { StateFile } from '../state/index.ts';

/** Counts are written ahead in steps, so that a crash loses none and a write is rare. */
const STEP = 65_536;
/**
 * From here on a rotation is asked for. NIST SP 800-38D, section 8.3, allows 2^32 random 96-bit IVs under one key in all;
 * this is a quarter of it on one host.
 */
export const ROTATE_FROM = 2 ** 30;

/** Encryptions for each key id whose IV this side chose, over restarts. Never refuses; a count is at most a step too high. */
export class IvCounts {
  readonly #file: StateFile<Record<string, number>>;
  readonly #log: Log;
  readonly #counts = new Map<string, number>();
  readonly #reserved = new Map<string, number>();
  readonly #warned = new Set<string>();

  constructor(stateDir: string, log: Log) {
    this.#file = new StateFile(path.join(stateDir, 'iv-counts.json'));
    this.#log = log;
    try {
      for (const [keyId, count] of Object.entries(this.#file.read() ?? {})) {
        if (!Number.isSafeInteger(count) || count < 0) throw new TypeError(`the count of ${keyId} is no number`);
        this.#counts.set(keyId, count);
        this.#reserved.set(keyId, count);
      }
    } catch (error) {
      log.error('the counts of IVs cannot be read; they start again from 0', {
        code: FAULTS['state-file'].code,
        file: this.#file.path,
        reason: (error as Error).message,
      });
    }
  }

  add(keyId: string, ivs: number): void {
    if (ivs === 0) return;
    const count = (this.#counts.get(keyId) ?? 0) + ivs;
    this.#counts.set(keyId, count);
    const reserved = this.#reserved.get(keyId) ?? 0;
    if (count > reserved) {
      const saved = this.#save({ ...Object.fromEntries(this.#reserved), [keyId]: count + STEP });
      // A full disk is tried again soon, and not at every value.
      this.#reserved.set(keyId, count + (saved ? STEP : STEP / 64));
    }
    if (count >= ROTATE_FROM && !this.#warned.has(keyId)) {
      this.#warned.add(keyId);
      this.#log.warn('a key has encrypted 2^30 values on this host: rotate it (docs/rotate.md)', { keyId, count });
    }
  }

  count(keyId: string): number {
    return this.#counts.get(keyId) ?? 0;
  }

  /** Writes the exact counts; at an orderly end. */
  close(): void {
    if (this.#counts.size > 0) this.#save(Object.fromEntries(this.#counts));
  }

  #save(counts: Record<string, number>): boolean {
    try {
      this.#file.write(counts);
      return true;
    } catch (error) {
      this.#log.error('the counts of IVs cannot be written; free some space in state_dir', {
        code: FAULTS['state-file'].code,
        file: this.#file.path,
        reason: (error as Error).message,
      });
      return false;
    }
  }
}
