import type { Call } from '../call/index.ts';
import type { SchemeConfig } from '../config/index.ts';
import { KmsError } from '../errors/index.ts';
import type { Token, TokenKey } from '../token/index.ts';
import {
  dataKeyAssociatedData,
  DATA_KEY_BYTES,
  newDataKey,
  openValue,
  sealValue,
  type EnvelopeBody,
} from './data-key.ts';
import { makeHeader, malformed } from './header.ts';
import { IvGuard } from './iv-guard.ts';
import type { ParsedCiphertext } from './parse.ts';

/** The key that encrypts: its facts on the token, and which of its ids it writes. */
export interface SealingKey {
  readonly keyId: string;
  readonly token: Pick<TokenKey, 'scheme' | 'ivBy' | 'maxValueBytes'>;
}

/** What a seal used up, for the count of IVs. */
export interface Sealed {
  readonly ciphertext: Buffer;
  /** IVs that this side chose under the HSM's key. */
  readonly ivsChosen: number;
}

/** Bytes of a ciphertext: header, scheme, associated data. Knows no key names and does no I/O of its own. */
export class Cipher {
  readonly #token: Token;
  readonly #guard = new IvGuard();
  #scheme: SchemeConfig;

  constructor(token: Token, scheme: SchemeConfig) {
    this.#token = token;
    this.#scheme = scheme;
  }

  configure(scheme: SchemeConfig): void {
    this.#scheme = scheme;
  }

  /**
   * Encrypts a value. Throws KmsError: what the token throws, 'value-too-large' where one HSM call cannot take it and
   * `large_values` is `refuse`.
   */
  async seal(key: SealingKey, plaintext: Buffer, call: Call): Promise<Sealed> {
    const { scheme, maxValueBytes } = key.token;
    if (maxValueBytes === undefined || plaintext.length <= maxValueBytes) {
      const header = makeHeader(scheme, key.keyId);
      const body = await this.#sealInToken(key, header, plaintext, call);
      return { ciphertext: Buffer.concat([header, body]), ivsChosen: ivsChosen(key) };
    }
    if (this.#scheme.largeValues === 'refuse') {
      throw new KmsError(
        'value-too-large',
        `the value has ${plaintext.length} bytes, one call of this HSM takes ${maxValueBytes}, and scheme.large_values is "refuse"`,
        { bytes: plaintext.length },
      );
    }
    return this.#sealWithDataKey(key, plaintext, call);
  }

  /** @returns the plaintext of what `parseCiphertext` took apart; the caller zeroes it. */
  async open(parsed: ParsedCiphertext, call: Call): Promise<Buffer> {
    const { scheme, keyId, header, body, envelope } = parsed;
    if (scheme !== 4) return this.#token.open(keyId, scheme, header, body, call);
    if (envelope === undefined) throw new TypeError('a ciphertext of scheme 4 was not taken apart');
    const dataKey = await this.#openDataKey(envelope, call);
    try {
      return openValue(dataKey, envelope);
    } finally {
      dataKey.fill(0);
    }
  }

  async #sealInToken(key: SealingKey, associatedData: Buffer, plaintext: Buffer, call: Call): Promise<Buffer> {
    const body = await this.#token.seal(key.keyId, key.token.scheme, associatedData, plaintext, call);
    if (key.token.ivBy === 'hsm') this.#guard.check(key.keyId, key.token.scheme, body);
    return body;
  }

  async #sealWithDataKey(key: SealingKey, plaintext: Buffer, call: Call): Promise<Sealed> {
    const innerScheme = key.token.scheme;
    const dataKey = newDataKey();
    try {
      const sealed = await this.#sealInToken(key, dataKeyAssociatedData(key.keyId, innerScheme), dataKey, call);
      return {
        ciphertext: sealValue(dataKey, { keyId: key.keyId, innerScheme, sealed }, plaintext),
        ivsChosen: ivsChosen(key),
      };
    } finally {
      dataKey.fill(0);
    }
  }

  async #openDataKey(body: EnvelopeBody, call: Call): Promise<Buffer> {
    const { keyId, innerScheme, sealed } = body.dataKey;
    const dataKey = await this.#token.open(keyId, innerScheme, dataKeyAssociatedData(keyId, innerScheme), sealed, call);
    if (dataKey.length === DATA_KEY_BYTES) return dataKey;
    dataKey.fill(0);
    throw malformed(`its data key does not have ${DATA_KEY_BYTES} bytes`);
  }
}

const ivsChosen = (key: SealingKey): number => (key.token.ivBy === 'caller' ? 1 : 0);
