import type { Socket } from 'node:net';
import { encodeHeader, FrameReader, type Frame, type FrameType } from './frame.ts';

/**
 * Largest payload in bytes: the largest message that the configuration allows (64 MiB), and room for a request's own fields
 * and for lists of keys.
 */
export const MAX_PAYLOAD_BYTES = 64 * 1024 * 1024 + 256 * 1024;

/**
 * One end of the socketpair: sends and receives frames. All frames of one tick leave in one write, since a system call
 * costs more than a small frame.
 */
export class Channel {
  readonly #socket: Socket;
  #corked = false;
  #closed = false;

  /** @param onBroken called once when the stream ends (no argument) or breaks (why). */
  constructor(
    socket: Socket,
    maxPayloadBytes: number,
    onFrame: (frame: Frame) => void,
    onBroken: (reason?: Error) => void,
  ) {
    this.#socket = socket;
    const reader = new FrameReader(maxPayloadBytes);
    const broken = (reason?: Error): void => {
      if (this.#closed) return;
      this.#closed = true;
      socket.destroy();
      onBroken(reason);
    };
    socket.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk, onFrame);
      } catch (error) {
        broken(error as Error);
      }
    });
    socket.on('error', broken);
    socket.on('end', () => broken());
    socket.on('close', () => broken());
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * @param parts the payload's pieces in order; they must stay untouched until `onSent`.
   * @param onSent called when the kernel has taken them: the moment to zero what was secret.
   */
  send(type: FrameType, id: bigint, parts: readonly Buffer[], onSent?: () => void): void {
    if (this.#closed) {
      onSent?.();
      return;
    }
    if (!this.#corked) {
      this.#corked = true;
      this.#socket.cork();
      setImmediate(() => {
        this.#corked = false;
        this.#socket.uncork();
      });
    }
    let bytes = 0;
    for (const part of parts) bytes += part.length;
    const last = parts.length - 1;
    this.#socket.write(encodeHeader(type, id, bytes), last < 0 ? onSent : undefined);
    parts.forEach((part, index) => this.#socket.write(part, index === last ? () => onSent?.() : undefined));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.end();
  }
}
