import { Socket } from 'node:net';
import { FRAME_HEADER_BYTES, FrameReader, writeHeader, type Frame, type FrameType } from './frame.ts';

/**
 * Largest payload in bytes: the largest message that the configuration allows (64 MiB), and room for a request's own fields
 * and for lists of keys.
 */
const MAX_PAYLOAD_BYTES = 64 * 1024 * 1024 + 256 * 1024;

/** Payloads up to so many bytes are copied together into one block: that costs less than a write of their own. */
const COPIED_BYTES = 16 * 1024;
const READ_BYTES = 64 * 1024;

interface Outgoing {
  readonly type: FrameType;
  readonly id: number;
  readonly parts: readonly Buffer[];
  readonly payloadBytes: number;
  readonly onSent: (() => void) | undefined;
}

export interface ChannelEvents {
  frame(frame: Frame): void;
  /** Once, when the stream ended (no argument) or broke (why). */
  broken(reason?: Error): void;
}

/**
 * One end of the socketpair: sends and receives frames. All frames of one tick leave in one write, since a system call
 * costs more than a small frame.
 */
export class Channel {
  readonly #socket: Socket;
  readonly #reader = new FrameReader(MAX_PAYLOAD_BYTES);
  readonly #onFrame: (frame: Frame) => void;
  readonly #onBroken: (reason?: Error) => void;
  #outgoing: Outgoing[] = [];
  #closed = false;

  /** @param source - a socket, or the descriptor of one: that is read without a buffer of its own for each read. */
  constructor(source: Socket | { readonly fd: number }, events: ChannelEvents) {
    this.#onFrame = (frame) => events.frame(frame);
    this.#onBroken = (reason) => events.broken(reason);
    this.#socket = source instanceof Socket ? source : this.#open(source.fd);
    if (source instanceof Socket) source.on('data', (chunk: Buffer) => this.#receive(chunk));
    this.#socket.on('error', (error) => this.#broken(error));
    this.#socket.on('end', () => this.#broken());
    this.#socket.on('close', () => this.#broken());
  }

  /**
   * @param parts - the payload's pieces in order; they must stay untouched until `onSent`.
   * @param onSent - called when the kernel has taken them: the moment to zero what was secret.
   */
  send(type: FrameType, id: number, parts: readonly Buffer[], onSent?: () => void): void {
    if (this.#closed) {
      onSent?.();
      return;
    }
    let payloadBytes = 0;
    for (const part of parts) payloadBytes += part.length;
    if (this.#outgoing.push({ type, id, parts, payloadBytes, onSent }) === 1) setImmediate(() => this.#flush());
  }

  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#socket.end();
  }

  #open(fd: number): Socket {
    const onread = {
      buffer: Buffer.alloc(READ_BYTES),
      callback: (bytes: number, buffer: Uint8Array): boolean => {
        this.#receive(Buffer.from(buffer.buffer, buffer.byteOffset, bytes));
        return true;
      },
    };
    return new Socket({ fd, readable: true, writable: true, onread });
  }

  #receive(chunk: Buffer): void {
    try {
      this.#reader.push(chunk, this.#onFrame);
    } catch (error) {
      chunk.fill(0);
      this.#broken(error as Error);
    }
  }

  #broken(reason?: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.destroy();
    this.#reader.clear();
    this.#flush();
    this.#onBroken(reason);
  }

  #flush(): void {
    const frames = this.#outgoing;
    if (frames.length === 0) return;
    this.#outgoing = [];
    if (this.#closed) {
      for (const { onSent } of frames) onSent?.();
      return;
    }
    let small: Outgoing[] = [];
    for (const frame of frames) {
      if (frame.payloadBytes <= COPIED_BYTES) {
        small.push(frame);
        continue;
      }
      this.#writeTogether(small);
      small = [];
      this.#writeUncopied(frame);
    }
    this.#writeTogether(small);
  }

  /** In one block, zeroed when it was written: values travel in it. */
  #writeTogether(frames: readonly Outgoing[]): void {
    if (frames.length === 0) return;
    let bytes = 0;
    for (const { payloadBytes } of frames) bytes += FRAME_HEADER_BYTES + payloadBytes;
    const block = Buffer.allocUnsafe(bytes);
    let at = 0;
    for (const { type, id, parts, payloadBytes } of frames) {
      writeHeader(block, at, type, id, payloadBytes);
      at += FRAME_HEADER_BYTES;
      for (const part of parts) {
        block.set(part, at);
        at += part.length;
      }
    }
    this.#socket.write(block, () => {
      block.fill(0);
      for (const { onSent } of frames) onSent?.();
    });
  }

  #writeUncopied({ type, id, parts, payloadBytes, onSent }: Outgoing): void {
    const header = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
    writeHeader(header, 0, type, id, payloadBytes);
    this.#socket.cork();
    this.#socket.write(header);
    const last = parts.length - 1;
    parts.forEach((part, index) => this.#socket.write(part, index === last ? () => onSent?.() : undefined));
    this.#socket.uncork();
  }
}
