import type { Call } from '../call/index.ts';
import type { SchemeConfig } from '../config/index.ts';
import { KmsError } from '../errors/index.ts';
import type { Token } from '../token/index.ts';
import { CurrentDataKey } from './current-data-key.ts';
import { DataKeyCache } from './data-key-cache.ts';
import {
  dataKeyAssociatedData,
  DATA_KEY_BYTES,
  newDataKey,
  openValue,
  sealValue,
  type EnvelopeBody,
  type SealedDataKey,
} from './data-key.ts';
import { makeHeader, malformed } from './header.ts';
import { IvGuard } from './iv-guard.ts';
import type { ParsedCiphertext } from './parse.ts';
import type { SealingKey } from './sealing-key.ts';

/** What operators see of data keys; all zero in the direct scheme without large values. */
export interface DataKeyReport {
  readonly cached: number;
  readonly hits: number;
  readonly misses: number;
  readonly made: number;
  /** ISO time until when Encrypt goes on without the HSM; only while a data key is reused. */
  readonly encryptsUntil?: string;
}

/** Limits of a data key that serves one value. */
const ONE_VALUE = { maxAgeMs: 0, maxValues: 1, maxBytes: 0 };

/**
 * Bytes of a ciphertext: header, scheme, associated data. `direct` has the HSM seal the value; `envelope`, and what is too
 * large for one HSM call, has it seal a data key. Either opens what the other made.
 */
export class Cipher {
  readonly #token: Token;
  /** Told of every IV that this side chose under an HSM's key. */
  readonly #onIv: (keyId: string) => void;
  readonly #guard = new IvGuard();
  readonly #cache = new DataKeyCache();
  readonly #current: CurrentDataKey;
  #scheme: SchemeConfig;
  #dataKeysMade = 0;

  constructor(token: Token, scheme: SchemeConfig, onIv: (keyId: string) => void) {
    this.#token = token;
    this.#onIv = onIv;
    this.#scheme = scheme;
    this.#current = new CurrentDataKey(scheme.envelope ?? ONE_VALUE, (key, call) => this.#makeDataKey(key, call));
    this.configure(scheme);
  }

  /** Takes other settings; data keys that they do not allow to be kept are zeroed. */
  configure(scheme: SchemeConfig): void {
    this.#scheme = scheme;
    const { envelope } = scheme;
    this.#cache.configure({ size: envelope?.cacheSize ?? 0, ttlMs: envelope?.cacheTtlMs ?? 0 });
    this.#current.configure(envelope ?? ONE_VALUE);
    if (envelope?.dataKey !== 'reuse') this.#current.close();
  }

  /** Whether some calls may succeed without the HSM. */
  get servesCached(): boolean {
    const { envelope } = this.#scheme;
    return envelope !== undefined && (envelope.dataKey === 'reuse' || this.#cache.size > 0);
  }

  /**
   * @returns a whole ciphertext. Throws KmsError: what the token throws, 'value-too-large' where one HSM call cannot take
   * the value and `large_values` is `refuse`.
   */
  async seal(key: SealingKey, plaintext: Buffer, call: Call): Promise<Buffer> {
    const { scheme, maxValueBytes } = key.token;
    const { envelope, largeValues } = this.#scheme;
    if (envelope?.dataKey === 'reuse') return this.#sealWithCurrent(key, plaintext, call);
    if (envelope === undefined && (maxValueBytes === undefined || plaintext.length <= maxValueBytes)) {
      const header = makeHeader(scheme, key.keyId);
      return Buffer.concat([header, await this.#sealInToken(key, header, plaintext, call)]);
    }
    if (envelope === undefined && largeValues === 'refuse') {
      throw new KmsError(
        'value-too-large',
        `the value has ${plaintext.length} bytes, one call of this HSM takes ${maxValueBytes ?? 0}, and scheme.large_values is "refuse"`,
        { bytes: plaintext.length },
      );
    }
    const { dataKey, sealed } = await this.#makeDataKey(key, call);
    try {
      return sealValue(dataKey, sealed, plaintext);
    } finally {
      dataKey.fill(0);
    }
  }

  /** @returns the plaintext of what `parseCiphertext` took apart; the caller zeroes it. */
  async open(parsed: ParsedCiphertext, call: Call): Promise<Buffer> {
    const { scheme, keyId, header, body, envelope } = parsed;
    if (scheme !== 4) return this.#token.open(keyId, scheme, header, body, call);
    if (envelope === undefined) throw new TypeError('a ciphertext of scheme 4 was not taken apart');
    return this.#cache.use(
      envelope.dataKey,
      call,
      (shared) => this.#openDataKey(envelope, shared),
      (dataKey) => openValue(dataKey, envelope),
    );
  }

  /** Forgets the data keys of every key that is not among these ids. */
  keepOnly(keyIds: ReadonlySet<string>): void {
    this.#cache.keepOnly(keyIds);
  }

  report(): DataKeyReport {
    const { size, hits, misses } = this.#cache;
    const until = this.#current.usableUntil();
    return {
      cached: size,
      hits,
      misses,
      made: this.#dataKeysMade,
      ...(until === undefined ? {} : { encryptsUntil: until }),
    };
  }

  close(): void {
    this.#cache.close();
    this.#current.close();
  }

  async #sealWithCurrent(key: SealingKey, plaintext: Buffer, call: Call): Promise<Buffer> {
    return this.#current.use(key, plaintext.length, call, (dataKey, sealed) => sealValue(dataKey, sealed, plaintext));
  }

  async #sealInToken(key: SealingKey, associatedData: Buffer, plaintext: Buffer, call: Call): Promise<Buffer> {
    const body = await this.#token.seal(key.keyId, key.token.scheme, associatedData, plaintext, call);
    if (key.token.ivBy === 'hsm') this.#guard.check(key.keyId, key.token.scheme, body);
    else this.#onIv(key.keyId);
    return body;
  }

  async #makeDataKey(
    key: SealingKey,
    call: Call,
  ): Promise<{ readonly dataKey: Buffer; readonly sealed: SealedDataKey }> {
    const { keyId } = key;
    const innerScheme = key.token.scheme;
    const dataKey = newDataKey();
    try {
      const sealed = await this.#sealInToken(key, dataKeyAssociatedData(keyId, innerScheme), dataKey, call);
      this.#dataKeysMade++;
      const sealedKey = { keyId, innerScheme, sealed };
      this.#cache.put(sealedKey, dataKey);
      return { dataKey, sealed: sealedKey };
    } catch (error) {
      dataKey.fill(0);
      throw error;
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
