import { readUint64, writeUint64 } from './uint64.ts';

/**
 * Frames on the socketpair between plugin process and token process. Big-endian:
 *
 *     payload length (4) | version (1) | type (1) | request id (8) | payload
 *
 * A request id is never used twice in the life of a plugin process, so a late answer cannot be taken for another
 * request's. Id 0 belongs to events. The length is checked before anything is allocated for the payload.
 */

export const FRAME_VERSION = 1;
export const FRAME_HEADER_BYTES = 14;

/** Frame types. Requests go to the token process; 'ok', 'failed' and 'event' come from it. */
export const FrameType = {
  open: 1,
  encrypt: 2,
  decrypt: 3,
  probe: 4,
  keys: 5,
  openSurely: 6,
  ok: 0x80,
  failed: 0x81,
  event: 0x82,
} as const;
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

const KNOWN_TYPES: ReadonlySet<number> = new Set(Object.values(FrameType));

export interface Frame {
  readonly type: FrameType;
  readonly id: number;
  readonly payload: Buffer;
}

/** The other side broke the framing: nothing that follows can be trusted. */
export class FrameError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'FrameError';
  }
}

/** Writes the header of a frame whose payload follows it. */
export function writeHeader(into: Buffer, at: number, type: FrameType, id: number, payloadBytes: number): void {
  into.writeUInt32BE(payloadBytes, at);
  into.writeUInt8(FRAME_VERSION, at + 4);
  into.writeUInt8(type, at + 5);
  writeUint64(into, id, at + 6);
}

/**
 * Cuts a byte stream into frames. Payloads are copies of their own (a chunk of the stream may hold several), so whoever
 * takes a frame may zero its payload.
 */
export class FrameReader {
  readonly #maxPayloadBytes: number;
  readonly #header = Buffer.alloc(FRAME_HEADER_BYTES);
  #headerFilled = 0;
  #payload: Buffer | undefined;
  #payloadFilled = 0;

  constructor(maxPayloadBytes: number) {
    this.#maxPayloadBytes = maxPayloadBytes;
  }

  /** Feeds a chunk and calls back for each frame that is complete. Throws FrameError. The chunk is zeroed afterwards. */
  push(chunk: Buffer, onFrame: (frame: Frame) => void): void {
    let at = 0;
    while (at < chunk.length || this.#payloadComplete()) {
      if (this.#payload === undefined) {
        const take = Math.min(FRAME_HEADER_BYTES - this.#headerFilled, chunk.length - at);
        chunk.copy(this.#header, this.#headerFilled, at, at + take);
        this.#headerFilled += take;
        at += take;
        if (this.#headerFilled < FRAME_HEADER_BYTES) break;
        this.#payload = Buffer.allocUnsafe(this.#checkHeader());
        this.#payloadFilled = 0;
      }
      const take = Math.min(this.#payload.length - this.#payloadFilled, chunk.length - at);
      chunk.copy(this.#payload, this.#payloadFilled, at, at + take);
      this.#payloadFilled += take;
      at += take;
      if (!this.#payloadComplete()) break;
      const frame: Frame = {
        type: this.#header.readUInt8(5) as FrameType,
        id: readUint64(this.#header, 6),
        payload: this.#payload,
      };
      this.#payload = undefined;
      this.#headerFilled = 0;
      onFrame(frame);
    }
    chunk.fill(0);
  }

  /** Zeroes what has come of a frame that will never be whole: it may be half a plaintext. */
  clear(): void {
    this.#payload?.fill(0);
    this.#payload = undefined;
    this.#headerFilled = 0;
  }

  #payloadComplete(): boolean {
    return this.#payload !== undefined && this.#payloadFilled === this.#payload.length;
  }

  /** @returns the payload's length in bytes. */
  #checkHeader(): number {
    const version = this.#header.readUInt8(4);
    if (version !== FRAME_VERSION) throw new FrameError(`frame version ${version} is not ${FRAME_VERSION}`);
    const type = this.#header.readUInt8(5);
    if (!KNOWN_TYPES.has(type)) throw new FrameError(`frame type ${type} is unknown`);
    const length = this.#header.readUInt32BE(0);
    if (length > this.#maxPayloadBytes) {
      throw new FrameError(`frame of ${length} bytes is over the limit of ${this.#maxPayloadBytes}`);
    }
    return length;
  }
}
