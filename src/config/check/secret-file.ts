import type { Sheet } from '../problems.ts';

/** Warns of a secret that every user of the host can read. */
export function warnIfOpen(property: string, file: string, mode: number, sheet: Sheet): void {
  if ((mode & 0o004) !== 0) sheet.warn(property, `names ${file}, which every user can read`, `chmod o-rwx ${file}`);
}
