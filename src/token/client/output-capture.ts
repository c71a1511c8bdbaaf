import type { Readable } from 'node:stream';
import type { Log } from '../../log/index.ts';

const MAX_LINE_CHARACTERS = 500;
const LINES_PER_WINDOW = 20;
const WINDOW_MS = 10_000;

/** Text that may be, or stand beside, a PIN or key material: vendors' libraries print their arguments when they trace. */
const SECRETS: readonly RegExp[] = [
  /(?:pin\b|passw|pwd|passphrase|secret|challenge|credential|login).*$/gi,
  /\b(?:[0-9a-f]{2}[ :,]?){8,}/gi,
  /[A-Za-z0-9+/]{20,}={0,2}/g,
  // PINs are digits as a rule; numbers of three digits are line numbers and error codes.
  /\d{4,}/g,
];

/** What stands in a line of a vendor's library, without what could be a secret. */
export function scrub(line: string): string {
  let text = line.slice(0, MAX_LINE_CHARACTERS).replace(/[^\x20-\x7e]/g, '?');
  for (const pattern of SECRETS) text = text.replace(pattern, '[left out]');
  return text;
}

/** Logs what the token process prints: it comes from the vendor's library. Bounded in length, number and memory. */
export function captureOutput(stream: Readable, name: 'stdout' | 'stderr', log: Log): void {
  let partial = '';
  let windowEnds = 0;
  let lines = 0;
  let dropped = 0;
  const emit = (line: string): void => {
    const now = performance.now();
    if (now > windowEnds) {
      if (dropped > 0) log.warn('the PKCS#11 module printed more than is logged', { stream: name, dropped });
      windowEnds = now + WINDOW_MS;
      lines = 0;
      dropped = 0;
    }
    if (line.trim() === '') return;
    lines++;
    if (lines <= LINES_PER_WINDOW) log.warn('the PKCS#11 module printed', { stream: name, text: scrub(line) });
    else dropped++;
  };
  stream.setEncoding('utf8');
  stream.on('data', (chunk: string) => {
    const parts = (partial + chunk).split('\n');
    partial = (parts.pop() ?? '').slice(0, MAX_LINE_CHARACTERS);
    for (const line of parts) emit(line);
  });
  stream.on('error', () => undefined);
  stream.on('close', () => {
    if (partial !== '') emit(partial);
  });
}
