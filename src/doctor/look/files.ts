import { accessSync, constants, lstatSync, statSync, type Stats } from 'node:fs';
import path from 'node:path';

/** What is under a name. What this user cannot see is never taken for absent. */
export type Seen =
  | { readonly kind: 'there'; readonly stats: Stats }
  | { readonly kind: 'absent' }
  /** The system's code: EACCES where a directory on the way cannot be entered. */
  | { readonly kind: 'hidden'; readonly code: string };

/** A file's type, mode and owner without following a link. */
export const lookAt = (file: string): Seen => look(() => lstatSync(file));

/** The same of what a link leads to. */
export const lookThrough = (file: string): Seen => look(() => statSync(file));

function look(ask: () => Stats): Seen {
  try {
    return { kind: 'there', stats: ask() };
  } catch (error) {
    const { code = 'unknown error' } = error as NodeJS.ErrnoException;
    return code === 'ENOENT' || code === 'ENOTDIR' ? { kind: 'absent' } : { kind: 'hidden', code };
  }
}

/** The first directory on the way to a file that this user may not enter; undefined when there is none. */
export function barrier(file: string): { readonly directory: string; readonly stats: Stats } | undefined {
  const parts = path.dirname(file).split(path.sep);
  for (let depth = 1; depth <= parts.length; depth++) {
    const directory = parts.slice(0, depth).join(path.sep) || path.sep;
    try {
      accessSync(directory, constants.X_OK);
    } catch {
      const seen = lookThrough(directory);
      return seen.kind === 'there' ? { directory, stats: seen.stats } : undefined;
    }
  }
  return undefined;
}
