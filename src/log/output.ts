import { fstatSync, writeSync } from 'node:fs';

/** Where finished log lines go. `write` returns at once and never throws, whatever hangs at the other end. */
export interface Output {
  write(line: string): void;
  /** Resolves when everything was handed to the kernel, or after `milliseconds`. */
  flush(milliseconds: number): Promise<void>;
}

/** Bytes that may wait in memory for a reader that does not read; about 4,000 lines. */
const MOST_PENDING = 1 << 20;

/**
 * Standard output as a log's destination. A pipe, socket or terminal is written without blocking: what the reader does
 * not take waits in memory up to `mostPending` bytes, then lines are dropped and counted. A file is written with
 * writeSync, since a disk answers at once, with ENOSPC when it is full: then the line is dropped and counted. The first
 * line that gets through afterwards is preceded by one that tells the count. A reader that went away (EPIPE) ends the
 * log, not the program.
 */
export function standardOutput(lost: (lines: number) => string, mostPending = MOST_PENDING): Output {
  return isFile(1) ? new FileOutput(1, lost) : new StreamOutput(process.stdout, lost, mostPending);
}

function isFile(descriptor: number): boolean {
  try {
    return fstatSync(descriptor).isFile();
  } catch {
    return false;
  }
}

/** The part of a net.Socket or tty.WriteStream that is used. */
export interface OutputStream {
  readonly writableLength: number;
  readonly destroyed: boolean;
  write(chunk: string): boolean;
  on(event: 'error' | 'drain', listener: () => void): unknown;
}

export class StreamOutput implements Output {
  readonly #stream: OutputStream;
  readonly #lost: (lines: number) => string;
  readonly #mostPending: number;
  #dropped = 0;

  constructor(stream: OutputStream, lost: (lines: number) => string, mostPending = MOST_PENDING) {
    this.#stream = stream;
    this.#lost = lost;
    this.#mostPending = mostPending;
    // Without a listener EPIPE would end the process.
    stream.on('error', () => undefined);
    stream.on('drain', () => this.#tell());
  }

  write(line: string): void {
    if (this.#stream.destroyed) return;
    if (this.#stream.writableLength + line.length > this.#mostPending) {
      this.#dropped++;
      return;
    }
    this.#tell();
    this.#stream.write(line);
  }

  async flush(milliseconds: number): Promise<void> {
    const end = performance.now() + milliseconds;
    while (!this.#stream.destroyed && this.#stream.writableLength > 0 && performance.now() < end) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  #tell(): void {
    if (this.#dropped === 0 || this.#stream.destroyed) return;
    const line = this.#lost(this.#dropped);
    this.#dropped = 0;
    this.#stream.write(line);
  }
}

class FileOutput implements Output {
  readonly #descriptor: number;
  readonly #lost: (lines: number) => string;
  #dropped = 0;
  /** Whether the file ends in the middle of a line, since a full disk took only a part of it. */
  #torn = false;

  constructor(descriptor: number, lost: (lines: number) => string) {
    this.#descriptor = descriptor;
    this.#lost = lost;
  }

  write(line: string): void {
    if (this.#dropped > 0 && this.#put(this.#lost(this.#dropped))) this.#dropped = 0;
    if (this.#dropped > 0 || !this.#put(line)) this.#dropped++;
  }

  flush(): Promise<void> {
    return Promise.resolve();
  }

  #put(line: string): boolean {
    const bytes = Buffer.from(this.#torn ? `\n${line}` : line);
    let written = 0;
    try {
      while (written < bytes.length) written += writeSync(this.#descriptor, bytes, written);
      this.#torn = false;
      return true;
    } catch {
      if (written > 0) this.#torn = true;
      return false;
    }
  }
}
