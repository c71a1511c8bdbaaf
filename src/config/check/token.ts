import path from 'node:path';
import { readSync } from 'node:fs';
import { withFile } from '../files.ts';
import type { Sheet } from '../problems.ts';
import { joinProperty } from '../read/document.ts';
import type { FileDraft, TokenDraft } from '../schema.ts';
import { warnIfOpen } from './secret-file.ts';

const LINE_FEED = 0x0a;
const CRLF = '\r\n';
/** Byte order marks of UTF-8 and UTF-16, which editors write in front of a text. */
const BYTE_ORDER_MARKS: readonly Buffer[] = ['efbbbf', 'fffe', 'feff'].map((hex) => Buffer.from(hex, 'hex'));
/** The largest PIN file in bytes that the token process takes. */
const MOST_PIN_BYTES = 1_024;

export function checkToken({ token }: FileDraft, sheet: Sheet): void {
  if (token === undefined) return;
  if (token.module !== undefined) checkModule(token.module, sheet);
  checkPartition(token.partition, sheet);
  checkPin(token, sheet);
  for (const [name, value] of token.environment ?? []) checkVariable(name, value, sheet);
}

function checkModule(file: string, sheet: Sheet): void {
  const seen = withFile(file, () => ({}));
  if (!('trouble' in seen)) return;
  const mend = "install the HSM's client software, or give the right path of its PKCS#11 library";
  const trouble = `names ${file}, which ${seen.trouble}`;
  // It may come later, with another program's files or a mount: serve listens, answers that the token is away, and tries again.
  if (seen.trouble.startsWith('does not exist')) sheet.contradiction('token.module', trouble, mend);
  else sheet.problem('token.module', trouble, mend);
}

function checkPartition(partition: TokenDraft['partition'], sheet: Sheet): void {
  if (partition === undefined) return;
  const given = Object.entries(partition).filter(([, value]) => value !== null);
  if (given.length === 1) return;
  const trouble =
    given.length === 0 ? 'names none' : `is named in ${given.length} ways (${given.map(([by]) => by).join(', ')})`;
  sheet.problem('token.partition', trouble, 'give exactly one of label, serial, slot');
}

function checkPin(token: TokenDraft, sheet: Sheet): void {
  const { login, pin_file: file } = token;
  if (login === 'none') {
    if (typeof file === 'string') sheet.warn('token.pin_file', 'is not used with login: none', 'remove it');
    return;
  }
  if (file === null && login !== undefined) {
    sheet.problem('token.pin_file', 'is missing', 'name the file that holds the PIN, or set login: none');
  }
  if (typeof file === 'string') checkPinFile(file, token.pin_file_newline, sheet);
}

/** Looks at the size, the first three bytes and the last one only: this process never holds the PIN. */
function checkPinFile(file: string, newline: TokenDraft['pin_file_newline'], sheet: Sheet): void {
  const property = 'token.pin_file';
  const seen = withFile(file, (descriptor, { size, mode }) => ({ size, mode, ...edges(descriptor, size) }));
  if ('trouble' in seen) {
    // A bare name that is no file may be the PIN itself, put into the wrong place.
    const which = path.dirname(file) === sheet.directory ? 'names a file that' : `names ${file}, which`;
    sheet.problem(property, `${which} ${seen.trouble}`, 'name a file that holds the PIN and that the plugin can read');
    return;
  }
  warnIfOpen(property, file, seen.mode, sheet);
  const { size, marked, endsInLineFeed, onlyLineEnding } = seen;
  if (size > MOST_PIN_BYTES) {
    const trouble = `names ${file}, which has ${size} bytes, and a PIN has at most ${MOST_PIN_BYTES}`;
    sheet.problem(property, trouble, 'name the file that holds the PIN, and nothing else');
  } else if (marked) {
    sheet.problem(
      property,
      `names ${file}, which begins with a byte order mark, and a wrong PIN may lock the partition`,
      'save the file as UTF-8 without one (printf %s)',
    );
  } else if (size === 0 || (onlyLineEnding && newline !== 'keep')) {
    sheet.problem(property, `names ${file}, which is empty`, "write the PIN into it: printf %s 'PIN' > FILE");
  } else if (endsInLineFeed && newline === null) {
    sheet.problem(
      property,
      `names ${file}, which ends in a line feed, and a wrong PIN may lock the partition`,
      'write the file without one (printf %s), or say with pin_file_newline whether the line feed is part of the PIN (keep) or not (strip)',
    );
  }
}

/** What the first three bytes and the last one of a file tell; they are read into memory that is zeroed. */
function edges(
  descriptor: number,
  size: number,
): { readonly marked: boolean; readonly endsInLineFeed: boolean; readonly onlyLineEnding: boolean } {
  const bytes = Buffer.alloc(4);
  const first = bytes.subarray(0, readSync(descriptor, bytes, 0, Math.min(3, size), 0));
  if (size > 0) readSync(descriptor, bytes, 3, 1, size - 1);
  const endsInLineFeed = size > 0 && bytes[3] === LINE_FEED;
  const seen = {
    marked: BYTE_ORDER_MARKS.some((mark) => first.subarray(0, mark.length).equals(mark)),
    endsInLineFeed,
    onlyLineEnding: endsInLineFeed && (size === 1 || (size === 2 && first.equals(Buffer.from(CRLF)))),
  };
  bytes.fill(0);
  return seen;
}

/** What would change the token process itself and not the vendor's module. */
function checkVariable(name: string, value: string, sheet: Sheet): void {
  const property = joinProperty('token.environment', name);
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
    sheet.problem(
      property,
      'is no name for an environment variable',
      'use letters, digits and "_", and begin with no digit',
    );
  } else if (name === 'UV_THREADPOOL_SIZE') {
    sheet.problem(property, 'is set by the plugin itself', 'remove it and set token.sessions');
  } else if (/^(NODE_|UV_|LD_PRELOAD$|LD_AUDIT$)/.test(name)) {
    sheet.problem(property, 'would change the token process and not only the module', 'remove it');
  } else if (value.includes('\0')) {
    sheet.problem(property, 'holds a NUL character', 'remove it');
  } else if (/(^|_)(PIN|PASSWORD|PASSWD|PASSPHRASE|SECRET)$/i.test(name)) {
    const trouble = "looks like a secret, and a process's environment can be read in /proc";
    sheet.warn(property, trouble, 'give a PIN by token.pin_file only');
  }
}
