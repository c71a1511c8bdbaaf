/** Whole numbers in eight bytes, big-endian, without the garbage of a BigInt. Exact up to 2^53, which nothing here reaches. */
const HIGH = 2 ** 32;

export function writeUint64(buffer: Buffer, value: number, at: number): void {
  buffer.writeUInt32BE(Math.floor(value / HIGH), at);
  buffer.writeUInt32BE(value % HIGH, at + 4);
}

export const readUint64 = (buffer: Buffer, at: number): number =>
  buffer.readUInt32BE(at) * HIGH + buffer.readUInt32BE(at + 4);
