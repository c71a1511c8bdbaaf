/** Time for the reader of standard output to take what is left, in milliseconds. */
const DRAIN_MS = 2_000;

let listening = false;

/** Writes text and a line feed to standard output. A reader that went away (`| head`) is no error. */
export function print(text: string): void {
  if (!listening) process.stdout.on('error', () => undefined);
  listening = true;
  process.stdout.write(`${harmless(text)}\n`);
}

export function complain(text: string): void {
  process.stderr.write(`kms-plugin: ${harmless(text)}\n`);
}

/** Colour only where a person looks (https://no-color.org). */
export function usesColour(): boolean {
  return process.stdout.isTTY && (process.env['NO_COLOR'] ?? '') === '' && process.env['TERM'] !== 'dumb';
}

/** Waits until standard output has been read, for at most 2 s. */
export async function drained(): Promise<void> {
  const end = performance.now() + DRAIN_MS;
  while (process.stdout.writableLength > 0 && !process.stdout.destroyed && performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/**
 * Labels, serial numbers and messages come from tokens and files: control characters in them, and those that turn the
 * direction of text, must not reach a terminal. Colours do.
 */
export function harmless(text: string): string {
  return text.replace(
    /\u001b\[[\d;]{0,8}m|[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g,
    (found) => (found.length > 1 ? found : '\ufffd'),
  );
}
