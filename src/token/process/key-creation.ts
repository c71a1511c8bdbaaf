import { randomBytes } from 'node:crypto';
import { CkrError, constants, type Handle, type Pkcs11Module, type Template } from '../pkcs11/module.ts';
import type { KeyQuery } from '../types.ts';
import { OperationError } from './operation-error.ts';

const MAC_KEY_BYTES = 32;

/** What a token may not know or allow; left out one after the other where it refuses the template. */
const OPTIONAL_ATTRIBUTES: readonly number[] = [
  constants.CKA_MODIFIABLE,
  constants.CKA_DERIVE,
  constants.CKA_WRAP,
  constants.CKA_UNWRAP,
  constants.CKA_ID,
  constants.CKA_PRIVATE,
];

/** Answers to C_GenerateKey that refuse the template. */
const TEMPLATE_REFUSED =
  /^CKR_(TEMPLATE_INCONSISTENT|ATTRIBUTE_TYPE_INVALID|ATTRIBUTE_VALUE_INVALID|ATTRIBUTE_READ_ONLY)$/;

/** Answers that trying again does not change. */
const REFUSED =
  /^CKR_(TEMPLATE_.*|ATTRIBUTE_.*|MECHANISM_.*|KEY_SIZE_RANGE|FUNCTION_NOT_SUPPORTED|ARGUMENTS_BAD|ACTION_PROHIBITED|TOKEN_WRITE_PROTECTED|SESSION_READ_ONLY|DEVICE_MEMORY)$/;

/** What of a key is to be made; the other part is there already. */
export interface Missing {
  readonly aes: boolean;
  /** Scheme 3's second key. */
  readonly mac: boolean;
}

/**
 * Makes a key that stays inside: sensitive, not extractable, no wrapping, a random CKA_ID of 16 bytes. The AES key comes
 * last: a second key alone counts as none, so an attempt that was cut short can be made again.
 *
 * Throws CkrError; OperationError 'key-not-made' when C_GenerateKey answered an error, 'key-create-refused' when the token
 * never makes such a key.
 */
export async function createKey(
  module: Pkcs11Module,
  session: Handle,
  query: KeyQuery,
  missing: Missing,
): Promise<void> {
  // A key that is to be found by its CKA_ID must have it.
  const optional = OPTIONAL_ATTRIBUTES.filter((type) => type !== constants.CKA_ID || query.ckaId === undefined);
  const make = (mechanism: number, template: Template): Promise<void> =>
    generate(module, session, mechanism, template, optional);
  try {
    if (missing.mac) {
      await make(constants.CKM_GENERIC_SECRET_KEY_GEN, [
        ...insideOnly(query, query.macLabel),
        { type: constants.CKA_KEY_TYPE, value: constants.CKK_GENERIC_SECRET },
        { type: constants.CKA_VALUE_LEN, value: MAC_KEY_BYTES },
        { type: constants.CKA_SIGN, value: true },
        { type: constants.CKA_VERIFY, value: true },
      ]);
    }
    if (missing.aes) {
      await make(constants.CKM_AES_KEY_GEN, [
        ...insideOnly(query),
        { type: constants.CKA_KEY_TYPE, value: constants.CKK_AES },
        { type: constants.CKA_VALUE_LEN, value: query.sizeBits / 8 },
        { type: constants.CKA_ENCRYPT, value: true },
        { type: constants.CKA_DECRYPT, value: true },
      ]);
    }
  } catch (error) {
    if (!(error instanceof CkrError) || error.operation !== 'C_GenerateKey') throw error;
    if (!REFUSED.test(error.ckr)) {
      const message = `the token made no key "${query.label}": ${error.message}`;
      throw new OperationError('key-not-made', message, { ckr: error.ckr });
    }
    throw new OperationError(
      'key-create-refused',
      `the token does not make key "${query.label}": ${error.message}; make it with the HSM's own tool`,
      { ckr: error.ckr },
    );
  }
}

/** @param label - another one than the query's. */
const insideOnly = ({ label: name, ckaId, anyLabel }: KeyQuery, label?: string): Template => [
  { type: constants.CKA_CLASS, value: constants.CKO_SECRET_KEY },
  ...(anyLabel === true && label === undefined
    ? []
    : [{ type: constants.CKA_LABEL, value: Buffer.from(label ?? name, 'utf8') }]),
  { type: constants.CKA_ID, value: ckaId === undefined ? randomBytes(16) : Buffer.from(ckaId, 'hex') },
  { type: constants.CKA_TOKEN, value: true },
  { type: constants.CKA_PRIVATE, value: true },
  { type: constants.CKA_SENSITIVE, value: true },
  { type: constants.CKA_EXTRACTABLE, value: false },
  { type: constants.CKA_WRAP, value: false },
  { type: constants.CKA_UNWRAP, value: false },
  // openCryptoki lets a generic secret derive unless told otherwise.
  { type: constants.CKA_DERIVE, value: false },
  { type: constants.CKA_MODIFIABLE, value: false },
];

async function generate(
  module: Pkcs11Module,
  session: Handle,
  mechanism: number,
  template: Template,
  optional: readonly number[],
): Promise<void> {
  let attempt = template;
  for (const left of [undefined, ...optional]) {
    if (left !== undefined) attempt = attempt.filter((attribute) => attribute.type !== left);
    try {
      await module.generateKey(session, mechanism, attempt);
      return;
    } catch (error) {
      const refused = error instanceof CkrError && TEMPLATE_REFUSED.test(error.ckr);
      if (!refused || left === optional.at(-1)) throw error;
    }
  }
}
