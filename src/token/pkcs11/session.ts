import type { Handle, Mechanism, Pkcs11Module } from './module.ts';
import { runOperation, type CryptoFunction } from './operation.ts';

/**
 * One PKCS#11 session and the cryptographic calls on it, each one job of libuv's pool. A session on which a call failed must
 * not be used again: the operation may still be open in it.
 */
export class Session {
  readonly handle: Handle;
  /** Objects can be made on it. */
  readonly writable: boolean;
  /** What the token can do. */
  readonly mechanisms: ReadonlySet<number>;
  readonly #module: Pkcs11Module;
  /** Key ids whose handles were checked on this session. */
  readonly verifiedKeys = new Set<string>();
  /** A call failed on it, or may have: it is closed and replaced after this use. */
  tainted = false;
  #closed = false;

  constructor(
    module: Pkcs11Module,
    opened: { readonly handle: Handle; readonly writable: boolean },
    mechanisms: ReadonlySet<number>,
  ) {
    this.#module = module;
    this.handle = opened.handle;
    this.writable = opened.writable;
    this.mechanisms = mechanisms;
  }

  /** @param outBytes - room for the output; more than it needs does no harm. */
  encrypt(mechanism: Mechanism, key: Handle, data: Buffer, outBytes: number): Promise<Buffer> {
    return this.#run('C_Encrypt', mechanism, key, data, Buffer.allocUnsafe(outBytes));
  }

  decrypt(mechanism: Mechanism, key: Handle, data: Buffer): Promise<Buffer> {
    // Some modules want room for the padding or tag that they take off.
    return this.#run('C_Decrypt', mechanism, key, data, Buffer.allocUnsafe(data.length + 16));
  }

  sign(mechanism: Mechanism, key: Handle, data: Buffer, outBytes: number): Promise<Buffer> {
    return this.#run('C_Sign', mechanism, key, data, Buffer.allocUnsafe(outBytes));
  }

  async #run(operation: CryptoFunction, mechanism: Mechanism, key: Handle, data: Buffer, out: Buffer): Promise<Buffer> {
    const { native } = this.#module;
    try {
      return await this.#module.inside(() => runOperation(native, operation, this.handle, mechanism, key, data, out));
    } catch (error) {
      this.tainted = true;
      out.fill(0);
      throw error;
    }
  }

  /** Once only: the module may have given the handle to another session since. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#module.closeSession(this.handle);
  }
}
