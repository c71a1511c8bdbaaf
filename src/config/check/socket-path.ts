import path from 'node:path';
import { lookAt, workingDirectoryTrouble } from '../files.ts';
import type { Sheet } from '../problems.ts';

/** sun_path has 108 bytes: one ends a path (unix(7)), or begins an abstract name. */
export const SUN_PATH_BYTES = 107;
/** A socket is bound under its path and at most this many more bytes, and then renamed. */
const TEMPORARY_BYTES = 11;

/** That a socket can be bound there, as far as can be told without binding it. */
export function checkSocketPath(property: string, file: string, sheet: Sheet): void {
  checkLength(property, file, sheet);
  const directory = path.dirname(file);
  const trouble = workingDirectoryTrouble(directory);
  if (trouble !== undefined) {
    const mend = "make the directory, with the plugin's user as its owner, who may enter it and write there";
    sheet.problem(property, `has no place: its directory ${directory} ${trouble}`, mend);
  }
  checkNoOther(property, file, sheet);
}

export function checkLength(property: string, file: string, sheet: Sheet): void {
  const bytes = Buffer.byteLength(file);
  const most = SUN_PATH_BYTES - TEMPORARY_BYTES;
  if (bytes <= most) return;
  const trouble =
    `is ${bytes} bytes long as an absolute path (${file}); ` +
    `with the ${TEMPORARY_BYTES} bytes of its temporary name a socket's path may have ${SUN_PATH_BYTES}`;
  sheet.problem(property, trouble, `choose a path of at most ${most} bytes`);
}

/** What is no socket is never removed, so it would stand in the way for good. */
export function checkNoOther(property: string, file: string, sheet: Sheet): void {
  const there = lookAt(file);
  if (there === undefined || there.isSocket()) return;
  const mend = 'choose another name or remove that file';
  sheet.problem(property, `names ${file}, which is there and is no socket`, mend);
}
