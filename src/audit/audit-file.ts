import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';

const LINE_FEED = 0x0a;
const MODE = 0o600;

/**
 * A regular file that is appended to, made with mode 0600; one that was there is given that mode. Nothing here waits in
 * the main thread: a disk that hangs holds up a thread of libuv's pool, and no call.
 */
export class AuditFile {
  readonly #handle: FileHandle;
  /** The file ends in the middle of a line, which somebody who wrote before was kept from ending. */
  #torn: boolean;

  private constructor(handle: FileHandle, torn: boolean) {
    this.#handle = handle;
    this.#torn = torn;
  }

  /** @throws Error with a system error's message, or that it is no regular file. */
  static async open(file: string): Promise<AuditFile> {
    const { O_RDWR, O_APPEND, O_CREAT, O_NONBLOCK, O_NOCTTY } = constants;
    // O_NONBLOCK: the name of a FIFO without a reader must not wait for one.
    const handle = await open(file, O_RDWR | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY, MODE);
    try {
      const stats = await handle.stat();
      if (!stats.isFile()) throw new Error(`${file} is no regular file`);
      if ((stats.mode & 0o777) !== MODE) await handle.chmod(MODE);
      const { size } = stats;
      const last = size === 0 ? undefined : (await handle.read(Buffer.alloc(1), 0, 1, size - 1)).buffer[0];
      return new AuditFile(handle, last !== undefined && last !== LINE_FEED);
    } catch (error) {
      await handle.close().catch(() => undefined);
      throw error;
    }
  }

  /** @returns how many bytes a full disk had room for. @throws a system error. */
  async append(bytes: Buffer): Promise<number> {
    if (this.#torn) await this.#write(Buffer.of(LINE_FEED));
    this.#torn = false;
    return this.#write(bytes);
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async #write(bytes: Buffer): Promise<number> {
    return (await this.#handle.write(bytes)).bytesWritten;
  }
}
