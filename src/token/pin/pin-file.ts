import { isUtf8 } from 'node:buffer';
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';

/** The largest PIN file in bytes: PINs have tens of characters, so a larger file is not one. */
const MOST_BYTES = 1_024;

/** Byte order marks of UTF-8 and UTF-16, which editors write in front of a text. */
const BYTE_ORDER_MARKS: readonly Buffer[] = ['efbbbf', 'fffe', 'feff'].map((hex) => Buffer.from(hex, 'hex'));

const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;

/** There is no PIN to be had from the file; the message names it and the mend. */
export class PinFileError extends Error {
  override readonly name = 'PinFileError';
}

/**
 * The PIN: the file's bytes as they are. `newline` decides about a line ending at its end: 'keep' takes it as part of the
 * PIN, 'strip' drops one (LF or CRLF), and without it the file is refused, since an editor added it and the token would
 * count a wrong PIN. The caller zeroes the buffer.
 *
 * @throws PinFileError when it is missing, unreadable, no regular file, empty, too large (over
 *   1,024 bytes), begins with a byte order mark, or is not UTF-8.
 */
export function readPinFile(path: string, newline?: 'keep' | 'strip'): Buffer {
  const bytes = readBytes(path);
  try {
    return checked(path, bytes, newline);
  } catch (error) {
    bytes.fill(0);
    throw error;
  }
}

function checked(path: string, bytes: Buffer, newline: 'keep' | 'strip' | undefined): Buffer {
  if (startsWithMark(bytes)) {
    throw new PinFileError(
      `pin_file ${path} begins with a byte order mark, which would be part of the PIN: save it as UTF-8 without one (printf %s)`,
    );
  }
  const ends = bytes.at(-1) === LINE_FEED;
  if (ends && newline === undefined) {
    throw new PinFileError(
      `pin_file ${path} ends in a line feed: write it without one (printf %s), or set pin_file_newline: strip, ` +
        'or keep if the PIN itself ends in a line feed',
    );
  }
  const pin = ends && newline === 'strip' ? withoutLineEnding(bytes) : bytes;
  if (pin.length === 0) throw new PinFileError(`pin_file ${path} is empty: put the PIN into it`);
  if (!isUtf8(pin))
    throw new PinFileError(`pin_file ${path} is not UTF-8, as PKCS#11 wants a PIN to be: write it anew`);
  return pin;
}

/** Whether a text begins with a byte order mark; its first three bytes tell. */
export const startsWithMark = (bytes: Buffer): boolean =>
  BYTE_ORDER_MARKS.some((mark) => bytes.subarray(0, mark.length).equals(mark));

const withoutLineEnding = (bytes: Buffer): Buffer => bytes.subarray(0, bytes.at(-2) === CARRIAGE_RETURN ? -2 : -1);

function readBytes(path: string): Buffer {
  const descriptor = open(path);
  try {
    if (!fstatSync(descriptor).isFile()) throw new PinFileError(`pin_file ${path} is not a regular file`);
    // Its own memory, not a piece of Node's pool, and never copied: the caller's fill(0) reaches all of it.
    const bytes = Buffer.alloc(MOST_BYTES + 1);
    let length = 0;
    for (let more = -1; more !== 0 && length < bytes.length; length += more) {
      more = readSync(descriptor, bytes, length, bytes.length - length, null);
    }
    if (length <= MOST_BYTES) return bytes.subarray(0, length);
    bytes.fill(0);
    throw new PinFileError(`pin_file ${path} has more than ${MOST_BYTES} bytes, so it is not a PIN: check the path`);
  } finally {
    closeSync(descriptor);
  }
}

/** Not blocking, or a FIFO at that path would wait for a writer. */
function open(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const mend = code === 'ENOENT' ? 'there is no such file' : `it cannot be read (${code ?? String(error)})`;
    throw new PinFileError(`pin_file ${path}: ${mend}; the plugin's user has to be able to read the PIN there`, {
      cause: error,
    });
  }
}
