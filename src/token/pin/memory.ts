import { randomBytes, scrypt } from 'node:crypto';
import { join } from 'node:path';
import { isAbout, isSameToken, parseEntry } from './entry.ts';
import type { PinEntry } from './entry.ts';
import { createSlots, readSlots, replaceSlots, updateSlots } from './slots.ts';
import type { Snapshot } from './slots.ts';
import type { TokenIdentity } from './types.ts';

const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** RFC 7914: 16 MiB and tens of milliseconds for each guess. */
const SCRYPT = { N: 2 ** 14, r: 8, p: 1 };
/** So many of the largest entries (under 600 bytes each) fit a slot. */
const MOST_ENTRIES = 50;
/** A CK_TOKEN_INFO has 16 bytes of serial number; this leaves room for escapes. */
const MOST_SERIAL_BYTES = 128;
const MOST_CKR_LENGTH = 64;

/** The memory cannot be used, and an operator has to act; the message says how. */
export class PinMemoryError extends Error {
  override readonly name = 'PinMemoryError';
}

/** Where the memory is. */
export const memoryPath = (stateDir: string): string => join(stateDir, 'pin-memory');

/** The lock over intent, C_Login and result, and over every change of the memory. */
export const loginLockPath = (stateDir: string): string => join(stateDir, 'login.lock');

interface Contents {
  readonly salt: Buffer;
  readonly entries: readonly PinEntry[];
}

/** What is remembered about PINs. Every change needs `login.lock`. */
export class PinMemory {
  readonly #path: string;
  readonly #salt: Buffer;
  #entries: readonly PinEntry[];
  #snapshot: Snapshot;

  private constructor(path: string, contents: Contents, snapshot: Snapshot) {
    this.#path = path;
    this.#salt = contents.salt;
    this.#entries = contents.entries;
    this.#snapshot = snapshot;
  }

  /** @throws PinMemoryError when it is damaged; the system's error when it cannot be read. Undefined when there is none. */
  static read(stateDir: string): PinMemory | undefined {
    const path = memoryPath(stateDir);
    const snapshot = readSlots(path);
    if (snapshot === 'missing') return undefined;
    const contents = snapshot === 'damaged' ? undefined : decode(snapshot.payload);
    if (snapshot === 'damaged' || contents === undefined) {
      throw new PinMemoryError(
        `${path} is damaged, so it is not known which PINs the token refused, and no PIN is tried. ` +
          'Check pin_file, then run "kms-plugin pin clear", which makes the file anew',
      );
    }
    return new PinMemory(path, contents, snapshot);
  }

  /** Like `read`, and makes it where there is none. */
  static open(stateDir: string): PinMemory {
    const found = PinMemory.read(stateDir);
    if (found !== undefined) return found;
    createSlots(memoryPath(stateDir), emptyMemory());
    const made = PinMemory.read(stateDir);
    if (made === undefined) throw new PinMemoryError(`${memoryPath(stateDir)} was removed by another program`);
    return made;
  }

  /** Puts an empty memory in the place of one that cannot be read. */
  static reset(stateDir: string): void {
    replaceSlots(memoryPath(stateDir), emptyMemory());
  }

  get entries(): readonly PinEntry[] {
    return this.#entries;
  }

  /** The hash under which a PIN (its bytes) of that token is remembered. */
  hash(serial: string, pin: Buffer): Promise<string> {
    if (Buffer.byteLength(JSON.stringify(serial)) > MOST_SERIAL_BYTES) {
      throw new RangeError(`the token's serial number has ${serial.length} characters, which is no serial number`);
    }
    const salt = Buffer.concat([this.#salt, Buffer.from(serial)]);
    return new Promise((resolve, reject) => {
      scrypt(pin, salt, HASH_BYTES, SCRYPT, (error, key) => {
        if (error === null) resolve(key.toString('hex'));
        else reject(error);
      });
    });
  }

  find(identity: TokenIdentity, hash: string): PinEntry | undefined {
    return this.#entries.find((entry) => entry.hash === hash && isAbout(entry, identity));
  }

  /**
   * Writes an entry in the place of the one it follows, and returns once the disk has it.
   * @throws PinMemoryError when there is no room; the system's error when it cannot be written.
   */
  put(entry: PinEntry): void {
    const others = this.#entries.filter((other) => !(other.hash === entry.hash && isSameToken(other, entry)));
    const next = { ...entry, ckr: entry.ckr?.slice(0, MOST_CKR_LENGTH) };
    const demoted = entry.standing === 'good' ? others.map((other) => demote(other, entry)) : others;
    this.#save([...this.#makeRoom(demoted), next]);
  }

  /** Forgets the entries of that token, or all, and says how many. */
  forget(serial: string | undefined): number {
    const kept = this.#entries.filter((entry) => serial !== undefined && entry.serial !== serial);
    const forgotten = this.#entries.length - kept.length;
    if (forgotten > 0) this.#save(kept);
    return forgotten;
  }

  /** The oldest entries that keep nobody from trying go first; the others never go. */
  #makeRoom(entries: readonly PinEntry[]): readonly PinEntry[] {
    if (entries.length < MOST_ENTRIES) return entries;
    const expendable = entries
      .filter((entry) => entry.lost === 0 && (entry.standing === 'tried' || entry.standing === 'good'))
      .sort((a, b) => (a.standing === b.standing ? a.at - b.at : a.standing === 'tried' ? -1 : 1));
    const oldest = expendable[0];
    if (oldest !== undefined) return this.#makeRoom(entries.filter((entry) => entry !== oldest));
    throw new PinMemoryError(
      `${this.#path} has no room for another PIN: it remembers ${entries.length} that were refused. No other PIN is ` +
        'tried. Check pin_file, then run "kms-plugin pin clear"',
    );
  }

  #save(entries: readonly PinEntry[]): void {
    const payload = encode({ salt: this.#salt, entries });
    try {
      this.#snapshot = updateSlots(this.#path, this.#snapshot, payload);
    } catch (error) {
      // Bad sectors under the old file: perhaps there are good ones elsewhere.
      this.#recreate(payload, error);
    }
    this.#entries = entries;
  }

  #recreate(payload: Buffer, trouble: unknown): void {
    try {
      createSlots(this.#path, payload);
    } catch {
      throw trouble;
    }
    const snapshot = readSlots(this.#path);
    if (snapshot === 'missing' || snapshot === 'damaged') throw trouble;
    this.#snapshot = snapshot;
  }
}

/** A token has one PIN: when another one proves good, this one was good only formerly. */
const demote = (entry: PinEntry, good: PinEntry): PinEntry =>
  entry.standing === 'good' && isSameToken(entry, good) ? { ...entry, standing: 'tried' } : entry;

const emptyMemory = (): Buffer => encode({ salt: randomBytes(SALT_BYTES), entries: [] });

const encode = (contents: Contents): Buffer =>
  Buffer.from(JSON.stringify({ salt: contents.salt.toString('hex'), entries: contents.entries }));

function decode(payload: Buffer): Contents | undefined {
  const value = parseJson(payload);
  if (typeof value !== 'object' || value === null) return undefined;
  const { salt, entries } = value as Record<string, unknown>;
  if (typeof salt !== 'string' || !/^[0-9a-f]{32}$/.test(salt) || !Array.isArray(entries)) return undefined;
  const parsed = entries.map(parseEntry).filter((entry) => entry !== undefined);
  return parsed.length === entries.length ? { salt: Buffer.from(salt, 'hex'), entries: parsed } : undefined;
}

function parseJson(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString());
  } catch {
    return undefined;
  }
}
