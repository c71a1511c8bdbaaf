import pkcs11js from 'pkcs11js';
import { CkrError, toCkrError } from './ckr.ts';
import type { Handle, Mechanism } from './module.ts';

export type CryptoFunction = 'C_Encrypt' | 'C_Decrypt' | 'C_Sign';

/** As `operation.cpp` documents it. */
type Operate = (
  native: pkcs11js.PKCS11,
  operation: number,
  session: Handle,
  key: Handle,
  mechanism: number,
  iv: Buffer | null,
  aad: Buffer | null,
  tagBits: number,
  input: Buffer,
  output: Buffer,
) => Promise<number>;

const NUMBERS: Readonly<Record<CryptoFunction, number>> = { C_Encrypt: 0, C_Decrypt: 1, C_Sign: 2 };

const { operate } = pkcs11js as unknown as { readonly operate?: Operate };
// One that npm compiled has pkcs11js's own functions only.
if (operate === undefined) {
  throw new Error('pkcs11.node lacks the function "operate": remove it and run scripts/check, which compiles it');
}
const operateIn: Operate = operate;

/**
 * C_…Init and the operation in one job of libuv's pool: neither stops this process's main thread. Nothing of the caller's
 * memory is used while the job runs; an IV that the HSM wrote is in the mechanism's own Buffer afterwards.
 *
 * @param output - as long as the result may be. Where this throws it may hold part of a result.
 * @returns the part of `output` that is the result. Throws CkrError, which names the function that answered.
 */
export async function runOperation(
  native: pkcs11js.PKCS11,
  operation: CryptoFunction,
  session: Handle,
  mechanism: Mechanism,
  key: Handle,
  input: Buffer,
  output: Buffer,
): Promise<Buffer> {
  const parameter = mechanism.parameter as Buffer | pkcs11js.AesGCM | null | undefined;
  const gcm = parameter === null || parameter === undefined || Buffer.isBuffer(parameter) ? undefined : parameter;
  const iv = gcm?.iv ?? (Buffer.isBuffer(parameter) ? parameter : null);
  const number = NUMBERS[operation];
  let length: number;
  try {
    length = await operateIn(
      ...([native, number, session, key, mechanism.mechanism, iv] as const),
      ...([gcm?.aad ?? null, gcm?.tagBits ?? 0, input, output] as const),
    );
  } catch (thrown) {
    throw toCkrError((thrown as { method?: string }).method ?? operation, thrown);
  }
  if (length <= output.length) return output.subarray(0, length);
  throw new CkrError(
    operation,
    'CKR_FUNCTION_FAILED',
    `${operation} answered CKR_OK with ${length} bytes where at most ${output.length} were asked for`,
  );
}
