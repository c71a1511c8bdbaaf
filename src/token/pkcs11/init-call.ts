import type { constants, Handle, Mechanism } from './module.ts';

export type CryptoFunction = 'C_Encrypt' | 'C_Decrypt' | 'C_Sign';

/** A C_…Init call as it travels to a lane: bytes in memory that both threads see, and where they stand in it. */
export interface InitMessage {
  readonly memory: SharedArrayBuffer;
  readonly function: `${CryptoFunction}Init`;
  readonly mechanism: number;
  /** 'raw': the parameter is an IV as it is. */
  readonly parameter: 'none' | 'raw' | 'gcm';
  readonly ivBytes: number;
  readonly aadBytes: number;
  readonly tagBits: number;
}

/** Session handle and key handle stand in front, a CK_ULONG each; then IV and associated data. */
export const HANDLE_BYTES = 8;
const IV_AT = 2 * HANDLE_BYTES;

/**
 * A mechanism in memory of its own: a module may keep the pointer to the IV and write one of its own there until the
 * operation is over, so it must outlive the Init call, and what the HSM wrote must get back to the caller. Nothing in it
 * is secret.
 */
export class InitCall {
  readonly message: InitMessage;
  readonly #iv: Buffer | undefined;
  readonly #shared: Buffer;

  constructor(name: InitMessage['function'], session: Handle, mechanism: Mechanism, key: Handle) {
    const parameter = mechanism.parameter as Buffer | constants.AesGCM | null | undefined;
    const raw = Buffer.isBuffer(parameter);
    const gcm = raw || parameter === null || parameter === undefined ? undefined : parameter;
    this.#iv = raw ? parameter : gcm?.iv;
    const ivBytes = this.#iv?.length ?? 0;
    const aadBytes = gcm?.aad?.length ?? 0;
    const memory = new SharedArrayBuffer(IV_AT + ivBytes + aadBytes);
    const bytes = Buffer.from(memory);
    session.copy(bytes, 0);
    key.copy(bytes, HANDLE_BYTES);
    this.#shared = bytes.subarray(IV_AT, IV_AT + ivBytes);
    this.#iv?.copy(this.#shared);
    gcm?.aad?.copy(bytes, IV_AT + ivBytes);
    this.message = {
      memory,
      function: name,
      mechanism: mechanism.mechanism,
      parameter: raw ? 'raw' : gcm === undefined ? 'none' : 'gcm',
      ivBytes,
      aadBytes,
      tagBits: gcm?.tagBits ?? 0,
    };
  }

  /** After the operation: the IV that the HSM may have written, into the caller's own memory. */
  giveBackIv(): void {
    if (this.#iv !== undefined) this.#shared.copy(this.#iv);
  }
}

/**
 * What a lane's thread runs. Text and not a file: it is all that the thread needs, and the bundle stays one file. Loading
 * the module again only takes its list of functions: it is the same library in the same process, initialized and logged in
 * already, whose handles hold in every thread (PKCS#11 v2.40, section 5.4 and 4.3).
 */
export const LANE_PROGRAM = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { PKCS11, CK_PARAMS_AES_GCM_v240 } = require(workerData.addon);
  const native = new PKCS11();
  native.load(workerData.module);
  const view = (memory, at, bytes) => (bytes === 0 ? Buffer.alloc(0) : Buffer.from(memory, at, bytes));
  parentPort.on('message', (call) => {
    const { memory, ivBytes, aadBytes, tagBits } = call;
    const iv = view(memory, ${IV_AT}, ivBytes);
    const parameter =
      call.parameter === 'none' ? undefined :
      call.parameter === 'raw' ? iv :
      { type: CK_PARAMS_AES_GCM_v240, iv, ivBits: ivBytes * 8, aad: view(memory, ${IV_AT} + ivBytes, aadBytes), tagBits };
    const mechanism = { mechanism: call.mechanism, ...(parameter === undefined ? {} : { parameter }) };
    const began = performance.now();
    let failure;
    try {
      native[call.function](view(memory, 0, ${HANDLE_BYTES}), mechanism, view(memory, ${HANDLE_BYTES}, ${HANDLE_BYTES}));
    } catch (error) {
      failure = { message: String(error.message), code: error.code };
    }
    parentPort.postMessage({ milliseconds: performance.now() - began, failure });
  });
  parentPort.postMessage('ready');
`;
