import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, writeSync } from 'node:fs';

/** Sizes in bytes of the values, most of them as CredHub's are. */
const SIZES = [0, 1, 16, 32, 32, 32, 64, 100, 300, 300, 1_000, 3_000, 20_000];

/** The value of that number: made anew whenever it is needed, so that none is kept. */
export function valueOf(index: number): Buffer {
  const size = SIZES[index % SIZES.length] ?? 0;
  const seed = createHash('sha256').update(`soak ${index}`).digest();
  return Buffer.alloc(size, seed);
}

/** Every ciphertext that was made, on the disk: memory must tell of the program under test only. */
export class Ciphertexts {
  readonly #file: number;
  readonly #entries: { index: number; at: number; bytes: number }[] = [];
  #end = 0;

  constructor(path: string) {
    this.#file = openSync(path, 'w+', 0o600);
  }

  get count(): number {
    return this.#entries.length;
  }

  add(index: number, ciphertext: Buffer): void {
    writeSync(this.#file, ciphertext, 0, ciphertext.length, this.#end);
    this.#entries.push({ index, at: this.#end, bytes: ciphertext.length });
    this.#end += ciphertext.length;
  }

  /** @param place counts from 0 to `count`. */
  get(place: number): { readonly plaintext: Buffer; readonly ciphertext: Buffer } {
    const entry = this.#entries[place];
    if (entry === undefined) throw new RangeError('no such ciphertext');
    const ciphertext = Buffer.alloc(entry.bytes);
    readSync(this.#file, ciphertext, 0, entry.bytes, entry.at);
    return { plaintext: valueOf(entry.index), ciphertext };
  }

  close(): void {
    closeSync(this.#file);
  }
}
