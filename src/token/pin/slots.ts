import { createHash } from 'node:crypto';
import {
  closeSync,
  constants,
  fdatasyncSync,
  fsyncSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';

/*
 * A small file that a full disk, a power failure or a kill neither empties nor blocks. All its 64 KiB are written when it
 * is made; from then on two slots of 32 KiB are overwritten in place, one after the other, each synced, so that one of
 * them is whole at every moment, and both carry the newest state at rest.
 *
 * Slot: magic (8) | sequence (8) | length (4) | SHA-256 of sequence, length and payload (32) | payload | zeros
 */

const SLOT_BYTES = 32 * 1024;
const FILE_BYTES = 2 * SLOT_BYTES;
const MAGIC = Buffer.from('KMSPIN\0\x01', 'latin1');
const SEQUENCE_AT = 8;
const LENGTH_AT = 16;
const CHECKSUM_AT = 20;
const PAYLOAD_AT = 52;

/** The largest payload in bytes. */
export const MOST_PAYLOAD = SLOT_BYTES - PAYLOAD_AT;

type SlotNumber = 0 | 1;

/** The newest whole slot. */
export interface Snapshot {
  readonly slot: SlotNumber;
  readonly sequence: bigint;
  readonly payload: Buffer;
}

/** The newest state; 'missing' without a file; 'damaged' when neither slot is whole. Other trouble is thrown as it is. */
export function readSlots(path: string): Snapshot | 'missing' | 'damaged' {
  const bytes = readBytes(path);
  if (bytes === undefined) return 'missing';
  const first = parseSlot(bytes, 0);
  const second = parseSlot(bytes, 1);
  if (first !== undefined && second !== undefined) return second.sequence > first.sequence ? second : first;
  return first ?? second ?? 'damaged';
}

/** Makes the file with `payload` in both slots, or replaces it: it has its name only once it is whole and synced. */
export function createSlots(path: string, payload: Buffer): void {
  const staging = `${path}.new`;
  try {
    rmSync(staging, { force: true });
    withFile(staging, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, (descriptor) => {
      const slot = encodeSlot(1n, payload);
      writeAll(descriptor, Buffer.concat([slot, slot]), 0);
      fsyncSync(descriptor);
    });
    renameSync(staging, path);
  } catch (error) {
    rmSync(staging, { force: true });
    throw error;
  }
  withFile(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY, fsyncSync);
}

/** Overwrites the older slot, syncs, then the other. Returns once the disk has `payload`. `before`: what readSlots gave. */
export function updateSlots(path: string, before: Snapshot, payload: Buffer): Snapshot {
  const older: SlotNumber = before.slot === 0 ? 1 : 0;
  const sequence = before.sequence + 1n;
  const slot = encodeSlot(sequence, payload);
  withFile(path, constants.O_WRONLY | constants.O_NOFOLLOW, (descriptor) => {
    writeAll(descriptor, slot, older * SLOT_BYTES);
    fdatasyncSync(descriptor);
    try {
      writeAll(descriptor, slot, before.slot * SLOT_BYTES);
      fdatasyncSync(descriptor);
    } catch {
      // The disk has the new state once; the second copy only guards against later damage.
    }
  });
  return { slot: older, sequence, payload };
}

/** Replaces a file in which nothing can be read, in place where it has its size, since a full disk has no room for another. */
export function replaceSlots(path: string, payload: Buffer): void {
  if (statSync(path).size === FILE_BYTES) updateSlots(path, { slot: 1, sequence: 0n, payload }, payload);
  else createSlots(path, payload);
}

function readBytes(path: string): Buffer | undefined {
  try {
    return withFile(path, constants.O_RDONLY | constants.O_NOFOLLOW, (descriptor) => {
      const bytes = Buffer.alloc(FILE_BYTES);
      let length = 0;
      for (let more = -1; more !== 0 && length < FILE_BYTES; length += more) {
        more = readSync(descriptor, bytes, length, FILE_BYTES - length, length);
      }
      return bytes.subarray(0, length);
    });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function parseSlot(bytes: Buffer, slot: SlotNumber): Snapshot | undefined {
  const part = bytes.subarray(slot * SLOT_BYTES, (slot + 1) * SLOT_BYTES);
  if (part.length !== SLOT_BYTES || !part.subarray(0, SEQUENCE_AT).equals(MAGIC)) return undefined;
  const length = part.readUInt32BE(LENGTH_AT);
  if (length > MOST_PAYLOAD) return undefined;
  const payload = part.subarray(PAYLOAD_AT, PAYLOAD_AT + length);
  if (!checksum(part, payload).equals(part.subarray(CHECKSUM_AT, PAYLOAD_AT))) return undefined;
  return { slot, sequence: part.readBigUInt64BE(SEQUENCE_AT), payload };
}

function encodeSlot(sequence: bigint, payload: Buffer): Buffer {
  if (payload.length > MOST_PAYLOAD) throw new RangeError(`${payload.length} bytes do not fit a slot`);
  const slot = Buffer.alloc(SLOT_BYTES);
  MAGIC.copy(slot);
  slot.writeBigUInt64BE(sequence, SEQUENCE_AT);
  slot.writeUInt32BE(payload.length, LENGTH_AT);
  payload.copy(slot, PAYLOAD_AT);
  checksum(slot, payload).copy(slot, CHECKSUM_AT);
  return slot;
}

const checksum = (slot: Buffer, payload: Buffer): Buffer =>
  createHash('sha256').update(slot.subarray(SEQUENCE_AT, CHECKSUM_AT)).update(payload).digest();

function writeAll(descriptor: number, bytes: Buffer, position: number): void {
  for (let done = 0; done < bytes.length;) {
    done += writeSync(descriptor, bytes, done, bytes.length - done, position + done);
  }
}

function withFile<T>(path: string, flags: number, use: (descriptor: number) => T): T {
  const descriptor = openSync(path, flags, 0o600);
  try {
    return use(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
