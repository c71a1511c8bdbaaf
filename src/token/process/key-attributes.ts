import { CkrError, constants, type Handle, type Pkcs11Module } from '../pkcs11/module.ts';
import { isPassing } from './key-id.ts';

const FLAGS = {
  sensitive: constants.CKA_SENSITIVE,
  extractable: constants.CKA_EXTRACTABLE,
  private: constants.CKA_PRIVATE,
  always_sensitive: constants.CKA_ALWAYS_SENSITIVE,
  never_extractable: constants.CKA_NEVER_EXTRACTABLE,
  encrypt: constants.CKA_ENCRYPT,
  decrypt: constants.CKA_DECRYPT,
  wrap: constants.CKA_WRAP,
  unwrap: constants.CKA_UNWRAP,
  derive: constants.CKA_DERIVE,
  local: constants.CKA_LOCAL,
  modifiable: constants.CKA_MODIFIABLE,
} as const;
export type FlagName = keyof typeof FLAGS;
export type Flags = Readonly<Record<FlagName, boolean | undefined>>;

/** Those that decide something: a token in trouble must not hide them. The others are only shown. */
const DECIDING: ReadonlySet<FlagName> = new Set(['sensitive', 'extractable', 'encrypt', 'decrypt']);

/** Reads the attributes of one token's objects on one session. */
export class Attributes {
  readonly #module: Pkcs11Module;
  readonly #session: Handle;

  constructor(module: Pkcs11Module, session: Handle) {
    this.#module = module;
    this.#session = session;
  }

  /** Undefined where it is not to be had: what a module does not know it may answer with any code. Throws CkrError. */
  bytes(object: Handle, type: number): Buffer | undefined {
    try {
      return this.#module.attribute(this.#session, object, type);
    } catch (error) {
      // CKR_GENERAL_ERROR is some modules' answer for an attribute that they do not know.
      if (error instanceof CkrError && (!isPassing(error.ckr) || error.ckr === 'CKR_GENERAL_ERROR')) return undefined;
      throw error;
    }
  }

  /**
   * A CK_ULONG; little-endian like every platform that pkcs11js runs on here. Throws CkrError.
   * @param options - `needed`: every module knows it, so that CKR_GENERAL_ERROR is trouble.
   */
  number(object: Handle, type: number, { needed = false } = {}): number | undefined {
    const value = needed ? this.#needed(object, type) : this.bytes(object, type);
    if (value === undefined) return undefined;
    if (value.length === 8) return Number(value.readBigUInt64LE(0));
    return value.length === 4 ? value.readUInt32LE(0) : undefined;
  }

  /** What no module can be without. */
  #needed(object: Handle, type: number): Buffer | undefined {
    try {
      return this.#module.attribute(this.#session, object, type);
    } catch (error) {
      if (error instanceof CkrError && !isPassing(error.ckr)) return undefined;
      throw error;
    }
  }

  /** Throws CkrError. */
  flags(object: Handle): Flags {
    const read = (name: FlagName): boolean | undefined => {
      try {
        const value = this.bytes(object, FLAGS[name]);
        return value?.length === 1 ? value[0] !== 0 : undefined;
      } catch (error) {
        if (DECIDING.has(name)) throw error;
        return undefined;
      }
    };
    const names = Object.keys(FLAGS) as FlagName[];
    return Object.fromEntries(names.map((name) => [name, read(name)])) as Record<FlagName, boolean | undefined>;
  }
}

/** What `allow_unsafe` accepts with a warning: the rules for both keys of scheme 3. */
export function unsafeFlags(flags: Flags): string[] {
  const unsafe: string[] = [];
  if (flags.sensitive === false) unsafe.push('CKA_SENSITIVE is false: its bytes can be read by anyone who has the PIN');
  if (flags.extractable === true) unsafe.push('CKA_EXTRACTABLE is true: it can be taken out of the HSM');
  return unsafe;
}

/** What an operator should know of a key that may be used: copies of it may be elsewhere, or may be misused. */
export function doubtfulFlags(flags: Flags): string[] {
  const doubts: string[] = [];
  if (flags.local === false) doubts.push('CKA_LOCAL is false: it was imported, and copies of it may exist');
  else if (flags.always_sensitive === false || flags.never_extractable === false)
    doubts.push('it could be read or taken out at some time (CKA_ALWAYS_SENSITIVE or CKA_NEVER_EXTRACTABLE is false)');
  if (flags.wrap === true) doubts.push('CKA_WRAP is true: it may also wrap other keys');
  if (flags.private === false) doubts.push('CKA_PRIVATE is false: it can be used without the PIN');
  return doubts;
}
