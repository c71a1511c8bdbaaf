import {
  closeSync,
  constants,
  fstatSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';

/**
 * A small JSON file in `state_dir`, 0600, replaced as a whole: written beside, synced, renamed, so that a crash or a full
 * disk leaves the older one.
 */
export class StateFile<T> {
  readonly path: string;

  constructor(file: string) {
    this.path = file;
  }

  /** @returns the contents, or undefined when there is none. Throws SyntaxError when it is no JSON, or another error. */
  read(): T | undefined {
    let text: string;
    try {
      text = readText(this.path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    return JSON.parse(text) as T;
  }

  /** Throws a system error; the older contents then stand. */
  write(contents: T): void {
    const temporary = `${this.path}.${process.pid}.tmp`;
    try {
      const file = openSync(temporary, 'w', 0o600);
      try {
        // All of it or an error: write(2) may take a part where the disk is almost full.
        writeFileSync(file, `${JSON.stringify(contents, undefined, 1)}\n`);
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      renameSync(temporary, this.path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    }
    const directory = openSync(path.dirname(this.path), 'r');
    try {
      fsyncSync(directory);
    } finally {
      closeSync(directory);
    }
  }
}

/** Not blocking: a FIFO at that path would wait for a writer, and the whole program with it. */
function readText(file: string): string {
  const descriptor = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!fstatSync(descriptor).isFile()) throw new Error('it is no regular file');
    return readFileSync(descriptor, 'utf8');
  } finally {
    closeSync(descriptor);
  }
}
