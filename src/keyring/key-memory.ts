import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { FAULTS } from '../errors/index.ts';
import type { Log } from '../log/index.ts';
import { StateFile } from '../state/index.ts';

interface Remembered {
  /** Every id of the label's own keys, 32 hex digits. */
  ids: string[];
  /** CKA_ID, in hex, of the key that had an id. */
  ckaIds?: Record<string, string>;
  /** Ids of keys that came under the label beside or in place of its own, and that nobody has named with `key_id`. */
  others?: string[];
  /** The id that Encrypt writes for it. */
  written?: string;
  /** ISO time. */
  firstSeen: string;
}

/** The making of a key by `create: true`: begun, and how it went. */
interface Making {
  /** ISO time. */
  since: string;
  /** How often C_GenerateKey answered an error. */
  errors: number;
  /** Begun, and its end is not known: a key may have been made. */
  open: boolean;
}

interface Contents {
  readonly version: 1;
  readonly labels: Readonly<Record<string, Remembered>>;
  readonly making?: Readonly<Record<string, Making>>;
}

/** After so many errors of C_GenerateKey only a person has a key made. */
const MAKING_ERRORS = 3;

const isRemembered = (value: unknown): value is Remembered => {
  const { ids, firstSeen, written } = (value ?? {}) as Partial<Record<keyof Remembered, unknown>>;
  const isIds = Array.isArray(ids) && ids.every((id) => typeof id === 'string');
  return isIds && typeof firstSeen === 'string' && (written === undefined || typeof written === 'string');
};

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

const isStrings = (value: unknown): boolean =>
  value === undefined || (isObject(value) && Object.values(value).every((each) => typeof each === 'string'));

const isMaking = (value: unknown): value is Making =>
  isObject(value) &&
  typeof value['since'] === 'string' &&
  Number.isSafeInteger(value['errors']) &&
  typeof value['open'] === 'boolean';

/** Throws TypeError for what this program never wrote. */
function partsOf(contents: unknown): { labels: Map<string, Remembered>; making: Map<string, Making> } {
  if (!isObject(contents) || contents['version'] !== 1 || !isObject(contents['labels'])) {
    throw new TypeError('it does not hold key ids');
  }
  const labels = Object.entries(contents['labels']).map(([label, value]): [string, Remembered] => {
    const { ckaIds, others } = isObject(value) ? value : {};
    if (!isRemembered(value) || !isStrings(ckaIds) || !isStrings(others)) {
      throw new TypeError(`its entry for "${label}" is damaged`);
    }
    return [label, value];
  });
  const making = Object.entries(isObject(contents['making']) ? contents['making'] : {}).map(
    ([label, value]): [string, Making] => {
      if (!isMaking(value)) throw new TypeError(`its note on the making of "${label}" is damaged`);
      return [label, value];
    },
  );
  return { labels: new Map(labels), making: new Map(making) };
}

/**
 * What `state_dir` remembers of keys: which ids were seen under which label, and which one is written. It keeps a key from
 * being made where one was in use before, and lets Status name the active key before the token was reached.
 */
export class KeyMemory {
  readonly #file: StateFile<Contents>;
  readonly #log: Log;
  #labels = new Map<string, Remembered>();
  #making = new Map<string, Making>();
  #unsaved = false;

  /** A file that cannot be read is an error in the log, and nothing is remembered as unknown: see `trustworthy`. */
  constructor(stateDir: string, log: Log) {
    this.#file = new StateFile(path.join(stateDir, 'key-ids.json'));
    this.#log = log;
    try {
      const contents = this.#file.read();
      if (contents !== undefined) ({ labels: this.#labels, making: this.#making } = partsOf(contents));
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

  /** Of the label's own keys. */
  ids(label: string): readonly string[] {
    return this.#labels.get(label)?.ids ?? [];
  }

  /** Every id that was ever seen under the label. */
  seen(label: string): readonly string[] {
    const { ids = [], others = [] } = this.#labels.get(label) ?? {};
    return [...ids, ...others];
  }

  /** The label's own ids whose key's CKA_ID is known. */
  withCkaIds(label: string): { readonly id: string; readonly ckaId: string }[] {
    const { ids = [], ckaIds = {} } = this.#labels.get(label) ?? {};
    return ids.flatMap((id) => {
      const ckaId = ckaIds[id];
      return ckaId === undefined ? [] : [{ id, ckaId }];
    });
  }

  written(label: string): string | undefined {
    return this.#labels.get(label)?.written;
  }

  firstSeen(label: string): string | undefined {
    return this.#labels.get(label)?.firstSeen;
  }

  /**
   * Remembers the ids of a key under a label, and the one that it writes. Saves when something is new. A key that has none
   * of the label's ids is another one than its own, unless `named` says that it is meant.
   */
  remember(
    label: string,
    ids: readonly string[],
    { ckaId, written, named = false }: { ckaId?: string | undefined; written?: string; named?: boolean } = {},
  ): void {
    const before = this.#labels.get(label);
    const known = before?.ids ?? [];
    const isOwn = named || known.length === 0 || ids.some((id) => known.includes(id));
    const own = isOwn ? [...new Set([...known, ...ids])] : known;
    const others = [...new Set([...(before?.others ?? []), ...(isOwn ? [] : ids)])].filter((id) => !own.includes(id));
    const ckaIds = {
      ...before?.ckaIds,
      ...(ckaId === undefined ? {} : Object.fromEntries(ids.map((id) => [id, ckaId]))),
    };
    const last = written ?? before?.written;
    const now: Remembered = {
      ids: own,
      ...(Object.keys(ckaIds).length === 0 ? {} : { ckaIds }),
      ...(others.length === 0 ? {} : { others }),
      ...(last === undefined ? {} : { written: last }),
      firstSeen: before?.firstSeen ?? new Date().toISOString(),
    };
    const isMade = this.#making.delete(label);
    if (isMade || !isDeepStrictEqual(before, now)) {
      this.#labels.set(label, now);
      this.#unsaved = true;
    }
    if (this.#unsaved) this.#save();
  }

  /** Why `create: true` must not make a key under the label; undefined when it may. */
  whyNotMake(label: string): string | undefined {
    const { since, errors, open } = this.#making.get(label) ?? {};
    if (since === undefined) return undefined;
    if (open === true) return `one was to be made at ${since}, and it is not known what came of it`;
    return errors !== undefined && errors >= MAKING_ERRORS ? `the HSM refused ${errors} times to make one` : undefined;
  }

  /** A key is about to be made. @returns false when that cannot be remembered. */
  beginMaking(label: string): boolean {
    const errors = this.#making.get(label)?.errors ?? 0;
    this.#making.set(label, { since: new Date().toISOString(), errors, open: true });
    return this.#save();
  }

  /** C_GenerateKey answered an error, or was not called (`counts` false): no key was made. */
  endMaking(label: string, counts: boolean): void {
    const { since = new Date().toISOString(), errors = 0 } = this.#making.get(label) ?? {};
    this.#making.set(label, { since, errors: errors + Number(counts), open: false });
    this.#save();
  }

  #save(): boolean {
    if (!this.trustworthy) return false;
    const making = this.#making.size === 0 ? {} : { making: Object.fromEntries(this.#making) };
    try {
      this.#file.write({ version: 1, labels: Object.fromEntries(this.#labels), ...making });
      this.#unsaved = false;
      return true;
    } catch (error) {
      this.#log.error('key ids cannot be remembered in state_dir; free some space or make it writable', {
        code: FAULTS['state-file'].code,
        file: this.#file.path,
        reason: (error as Error).message,
      });
      return false;
    }
  }
}
