import { closeSync, fstatSync, openSync, readSync } from 'node:fs';

const MOST_BYTES = 2 << 20;

/**
 * The last lines of the plugin's log, at most 2 MiB. Only lines of its own making (one JSON object with time, level and
 * message), which hold no secret; what else stands in the file is left out and counted.
 */
export function lastLogLines(file: string): string {
  const lines = tail(file)
    .split('\n')
    .filter((line) => line !== '');
  const own = lines.filter(isOurs);
  return [`# ${own.length} lines of the plugin's; ${lines.length - own.length} others left out`, ...own, ''].join('\n');
}

function tail(file: string): string {
  const descriptor = openSync(file, 'r');
  try {
    const { size } = fstatSync(descriptor);
    const bytes = Buffer.alloc(Math.min(size, MOST_BYTES));
    const count = readSync(descriptor, bytes, 0, bytes.length, size - bytes.length);
    const text = bytes.subarray(0, count).toString();
    return size > MOST_BYTES ? text.slice(text.indexOf('\n') + 1) : text;
  } finally {
    closeSync(descriptor);
  }
}

function isOurs(line: string): boolean {
  try {
    const { time, level, message } = JSON.parse(line) as Record<string, unknown>;
    return [time, level, message].every((value) => typeof value === 'string');
  } catch {
    return false;
  }
}
