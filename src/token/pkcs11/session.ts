import { toCkrError } from './ckr.ts';
import { InitCall, type CryptoFunction } from './init-call.ts';
import type { Handle, Mechanism, Pkcs11Module } from './module.ts';

/**
 * A view of 0 bytes that still has an address: a null pointer makes SoftHSM2 answer CKR_ARGUMENTS_BAD to an empty value.
 */
const addressable = (data: Buffer): Buffer => (data.length > 0 ? data : Buffer.alloc(1).subarray(0, 0));

/**
 * One PKCS#11 session and the cryptographic calls on it, each an Init (here or in a lane) and one call on libuv's pool. A
 * session on which a call failed must not be used again: the operation may still be open in it.
 */
export class Session {
  readonly handle: Handle;
  /** What the token can do. */
  readonly mechanisms: ReadonlySet<number>;
  readonly #module: Pkcs11Module;
  /** Key ids whose handles were checked on this session. */
  readonly verifiedKeys = new Set<string>();
  /** A call failed on it, or may have: it is closed and replaced after this use. */
  tainted = false;
  #closed = false;
  /** pkcs11js keeps bare pointers into these until their call ends: the garbage collector must not take them. */
  readonly #inUse: unknown[] = [];

  constructor(module: Pkcs11Module, handle: Handle, mechanisms: ReadonlySet<number>) {
    this.#module = module;
    this.handle = handle;
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
    const { native, lanes } = this.#module;
    const input = addressable(data);
    const init = `${operation}Init` as const;
    let step: string = init;
    this.#module.operations++;
    const call = lanes.pay(this.#module.operations) ? new InitCall(init, this.handle, mechanism, key) : undefined;
    this.#inUse.push(mechanism, key, input, out, call);
    try {
      if (call === undefined) lanes.here(() => native[init](this.handle, mechanism, key));
      else await lanes.run(call);
      step = operation;
      const result = await native[`${operation}Async`](this.handle, input, out);
      call?.giveBackIv();
      return result;
    } catch (thrown) {
      this.tainted = true;
      out.fill(0);
      throw toCkrError(step, thrown);
    } finally {
      this.#inUse.length = 0;
      this.#module.operations--;
    }
  }

  /** Once only: the module may have given the handle to another session since. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#module.closeSession(this.handle);
  }
}
