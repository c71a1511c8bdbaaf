import path from 'node:path';
import { FAULTS } from '../errors/index.ts';
import type { Log } from '../log/index.ts';
import { StateFile } from '../state/index.ts';

interface Remembered {
  /** Every id ever seen under the label, 32 hex digits. */
  ids: string[];
  /** The id that Encrypt writes for it. */
  written?: string;
  /** ISO time. */
  firstSeen: string;
}

interface Contents {
  readonly version: 1;
  readonly labels: Readonly<Record<string, Remembered>>;
}

const isRemembered = (value: unknown): value is Remembered => {
  const { ids, firstSeen, written } = (value ?? {}) as Partial<Record<keyof Remembered, unknown>>;
  const isIds = Array.isArray(ids) && ids.every((id) => typeof id === 'string');
  return isIds && typeof firstSeen === 'string' && (written === undefined || typeof written === 'string');
};

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

/** Throws TypeError for what this program never wrote. */
function labelsIn(contents: unknown): Map<string, Remembered> {
  if (!isObject(contents) || contents['version'] !== 1 || !isObject(contents['labels'])) {
    throw new TypeError('it does not hold key ids');
  }
  return new Map(
    Object.entries(contents['labels']).map(([label, value]) => {
      if (!isRemembered(value)) throw new TypeError(`its entry for "${label}" is damaged`);
      return [label, value];
    }),
  );
}

/**
 * What `state_dir` remembers of keys: which ids were seen under which label, and which one is written. It keeps a key from
 * being made where one was in use before, and lets Status name the active key before the token was reached.
 */
export class KeyMemory {
  readonly #file: StateFile<Contents>;
  readonly #log: Log;
  #labels = new Map<string, Remembered>();
  #unsaved = false;

  /** A file that cannot be read is an error in the log, and nothing is remembered as unknown: see `trustworthy`. */
  constructor(stateDir: string, log: Log) {
    this.#file = new StateFile(path.join(stateDir, 'key-ids.json'));
    this.#log = log;
    try {
      const contents = this.#file.read();
      if (contents !== undefined) this.#labels = labelsIn(contents);
    } catch (error) {
      this.trustworthy = false;
      log.error('the memory of key ids cannot be read; no key is created until it is removed or mended', {
        code: FAULTS['state-file'].code,
        file: this.#file.path,
        reason: (error as Error).message,
      });
    }
  }

  /** False when the file was damaged: a key may have been in use that is not remembered. */
  trustworthy = true;

  knows(label: string): boolean {
    return this.#labels.has(label);
  }

  ids(label: string): readonly string[] {
    return this.#labels.get(label)?.ids ?? [];
  }

  written(label: string): string | undefined {
    return this.#labels.get(label)?.written;
  }

  firstSeen(label: string): string | undefined {
    return this.#labels.get(label)?.firstSeen;
  }

  /** Remembers ids under a label, and the one that is written. Saves when something is new. */
  remember(label: string, ids: readonly string[], written?: string): void {
    const known = this.#labels.get(label);
    const fresh = ids.filter((id) => known?.ids.includes(id) !== true);
    const changed = fresh.length > 0 || known === undefined || (written !== undefined && known.written !== written);
    if (changed) {
      const last = written ?? known?.written;
      this.#labels.set(label, {
        ids: [...(known?.ids ?? []), ...fresh],
        ...(last === undefined ? {} : { written: last }),
        firstSeen: known?.firstSeen ?? new Date().toISOString(),
      });
      this.#unsaved = true;
    }
    if (this.#unsaved) this.#save();
  }

  #save(): void {
    if (!this.trustworthy) return;
    try {
      this.#file.write({ version: 1, labels: Object.fromEntries(this.#labels) });
      this.#unsaved = false;
    } catch (error) {
      this.#log.error('key ids cannot be remembered in state_dir; free some space or make it writable', {
        code: FAULTS['state-file'].code,
        file: this.#file.path,
        reason: (error as Error).message,
      });
    }
  }
}
