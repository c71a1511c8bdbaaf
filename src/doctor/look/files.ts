import { lstatSync, statSync } from 'node:fs';

/** A file's type, mode and owner without following a link; undefined when there is none or it cannot be seen. */
export function lookAt(file: string): ReturnType<typeof lstatSync> {
  try {
    return lstatSync(file, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/** The same of what a link leads to. */
export function lookThrough(file: string): ReturnType<typeof statSync> {
  try {
    return statSync(file, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}
