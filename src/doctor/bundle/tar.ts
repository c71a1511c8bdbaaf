/** One file of an archive. */
export interface Entry {
  readonly name: string;
  readonly contents: Buffer;
}

const BLOCK = 512;

/** A tar archive (POSIX.1-1988 ustar) of small files with mode 0600 and no owner's name. Names have at most 100 bytes. */
export function tar(entries: readonly Entry[], when: Date): Buffer {
  const blocks = entries.flatMap(({ name, contents }) => [
    header(name, contents.length, when),
    contents,
    Buffer.alloc((BLOCK - (contents.length % BLOCK)) % BLOCK),
  ]);
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]);
}

function header(name: string, size: number, when: Date): Buffer {
  const block = Buffer.alloc(BLOCK);
  if (Buffer.byteLength(name) > 100) throw new RangeError(`${name} is too long for an archive`);
  const octal = (value: number, digits: number): string => `${value.toString(8).padStart(digits, '0')}\0`;
  block.write(name, 0);
  block.write(octal(0o600, 7), 100);
  block.write(octal(0, 7), 108);
  block.write(octal(0, 7), 116);
  block.write(octal(size, 11), 124);
  block.write(octal(Math.floor(when.getTime() / 1000), 11), 136);
  // The checksum counts its own field as blanks.
  block.write('        ', 148);
  block.write('0', 156);
  block.write('ustar\0' + '00', 257);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}
