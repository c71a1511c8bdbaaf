import { openSync, readSync } from 'node:fs';

/**
 * Random bytes for IVs and data keys: from the kernel, for each of them, never ahead. OpenSSL's generator, which
 * node:crypto asks, keeps its state in this process: a virtual machine that is restored with its memory would use the same
 * IVs a second time. The kernel is told of a restored machine (random(4), VM generation id).
 */

/** Opened with the program: it must be there when descriptors have run out. */
const device = openSync('/dev/urandom', 'r');

/** Fills `length` bytes of `into` from `at` on. Throws a system error. */
export function randomInto(into: Buffer, at = 0, length = into.length - at): void {
  let done = 0;
  while (done < length) done += readSync(device, into, at + done, length - done, null);
}

/** So many random bytes, in a Buffer of its own. Throws a system error. */
export function freshRandom(bytes: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  randomInto(buffer);
  return buffer;
}
