/** Lines that were taken together to be written together. */
export interface Batch {
  readonly bytes: Buffer;
  readonly lines: number;
}

/** Lines that wait to be written: bounded, and honest about those that it did not take. */
export class Backlog {
  readonly #mostBytes: number;
  readonly #lostLine: (lines: number) => string;
  #lines: string[] = [];
  #waiting = 0;
  /** Of the batch that is being written. */
  #taken = 0;
  #gap = 0;

  /**
   * @param mostBytes - that are held, those being written included.
   * @param lostLine - what stands for so many lines that were not taken.
   */
  constructor(mostBytes: number, lostLine: (lines: number) => string) {
    this.#mostBytes = mostBytes;
    this.#lostLine = lostLine;
  }

  /** Lines refused since the last one that was taken. */
  get gap(): number {
    return this.#gap;
  }

  get lines(): number {
    return this.#lines.length;
  }

  /** @param line - of ASCII. @returns whether there was room for it. */
  offer(line: string): boolean {
    if (this.#waiting + this.#taken + line.length > this.#mostBytes) {
      this.#gap++;
      return false;
    }
    this.#closeGap();
    this.#push(line);
    return true;
  }

  /** The next lines to write; undefined when there are none. Nothing else is taken before `written`. */
  take(mostBytes: number): Batch | undefined {
    if (this.#lines.length === 0) this.#closeGap();
    let bytes = 0;
    let count = 0;
    for (const line of this.#lines) {
      if (count > 0 && bytes + line.length > mostBytes) break;
      bytes += line.length;
      count++;
    }
    if (count === 0) return undefined;
    const text = this.#lines.splice(0, count).join('');
    this.#waiting -= bytes;
    this.#taken = bytes;
    return { bytes: Buffer.from(text, 'latin1'), lines: count };
  }

  written(): void {
    this.#taken = 0;
  }

  #push(line: string): void {
    this.#lines.push(line);
    this.#waiting += line.length;
  }

  /** Says in the place of the missing lines how many they are. */
  #closeGap(): void {
    if (this.#gap === 0) return;
    this.#push(this.#lostLine(this.#gap));
    this.#gap = 0;
  }
}
