import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { statSync } from 'node:fs';
import type { TokenConfig } from '../../config/index.ts';
import { isRefused, PinFileError, readPinFile, type TokenIdentity } from '../pin/index.ts';

const ANOTHER = 'holds another PIN than the one that is logged in';
const TRIED = 'it will be tried at the next start, or when the connection to the HSM is lost';

/**
 * Whether `pin_file` still holds the PIN that is logged in. A wrong one is seen otherwise only when a restart needs it. No
 * login is made: of the PIN that worked this process keeps a digest under a key of its own.
 */
export class PinWatch {
  readonly #key = randomBytes(32);
  readonly #stateDir: string;
  readonly #file: string;
  readonly #newline: TokenConfig['pinFileNewline'];
  #good: { readonly digest: Buffer; readonly token: TokenIdentity } | undefined;
  /** What the file looked like when it was compared last. */
  #seen: string | undefined;
  #trouble: string | undefined;

  constructor(file: string, newline: TokenConfig['pinFileNewline'], stateDir: string) {
    this.#file = file;
    this.#newline = newline;
    this.#stateDir = stateDir;
  }

  /** @param pin - the one that has logged in; not kept. */
  loggedIn(token: TokenIdentity, pin: Buffer): void {
    this.#good = { digest: this.#digest(pin), token };
    this.#seen = undefined;
    this.#trouble = undefined;
  }

  /** What an operator should know of the file; undefined while it holds the PIN that is logged in. Read only when it has changed. */
  look(): string | undefined {
    if (this.#good === undefined) return undefined;
    const now = appearance(this.#file);
    if (now !== this.#seen) {
      this.#seen = now;
      this.#trouble = this.#compare(this.#good);
    }
    return this.#trouble;
  }

  #compare(good: { readonly digest: Buffer; readonly token: TokenIdentity }): string | undefined {
    try {
      const pin = readPinFile(this.#file, this.#newline);
      if (timingSafeEqual(this.#digest(pin), good.digest)) {
        pin.fill(0);
        return undefined;
      }
      void this.#askMemory(good.token, pin);
      return `pin_file ${this.#file} ${ANOTHER}; ${TRIED}`;
    } catch (error) {
      if (!(error instanceof PinFileError)) throw error;
      return `${error.message}. The login of now goes on; the next one fails`;
    }
  }

  /** One that the token has refused before is not tried again, so it will not be tried either. */
  async #askMemory(token: TokenIdentity, pin: Buffer): Promise<void> {
    const compared = this.#seen;
    try {
      const refused = await isRefused(this.#stateDir, token, pin);
      if (!refused || compared !== this.#seen) return;
      this.#trouble = `pin_file ${this.#file} ${ANOTHER}, and the token has refused it before: it is not tried again, so the next login fails`;
    } catch {
      // What is wrong with the memory, the next login says.
    } finally {
      pin.fill(0);
    }
  }

  #digest(pin: Buffer): Buffer {
    return createHmac('sha256', this.#key).update(pin).digest();
  }
}

/** Changes whenever somebody writes the file, replaces it, or turns a link to another. */
function appearance(file: string): string {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = statSync(file, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'not to be seen';
  }
}
