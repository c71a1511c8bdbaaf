import type { Call } from '../call/index.ts';
import type { SchemeConfig } from '../config/index.ts';
import { KmsError } from '../errors/index.ts';
import type { Token, TokenScheme } from '../token/index.ts';
import { CurrentDataKey, type NewDataKey } from './current-data-key.ts';
import { DataKeyCache } from './data-key-cache.ts';
import {
  changedValue,
  dataKeyAssociatedData,
  DATA_KEY_BYTES,
  fingerprint,
  newDataKey,
  openValue,
  sealedDataKey,
  sealedPart,
  sealValue,
  type EnvelopeBody,
  type SealedDataKey,
} from './data-key.ts';
import { makeHeader, sealedBytes } from './header.ts';
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

/**
 * Bytes of a ciphertext: header, scheme, associated data. `direct` has the HSM seal the value; `envelope`, and what is too
 * large for one HSM call, has it seal a data key. Either opens what the other made.
 */
export class Cipher {
  readonly #token: Token;
  readonly #guard = new IvGuard();
  readonly #cache = new DataKeyCache();
  readonly #current = new CurrentDataKey((key, call) => this.#makeProvenDataKey(key, call));
  #scheme: SchemeConfig;
  #dataKeysMade = 0;

  constructor(token: Token, scheme: SchemeConfig) {
    this.#token = token;
    this.#scheme = scheme;
    this.configure(scheme);
  }

  /** Takes other settings, at any time; data keys that they do not allow to be kept are zeroed. */
  configure(scheme: SchemeConfig): void {
    this.#scheme = scheme;
    const { envelope } = scheme;
    this.#cache.configure({ size: envelope?.cacheSize ?? 0, ttlMs: envelope?.cacheTtlMs ?? 0 });
    this.#current.configure(envelope?.dataKey === 'reuse' ? envelope : undefined);
  }

  /** Whether some calls may succeed without the HSM. */
  get servesCached(): boolean {
    return this.#current.usable || this.#cache.size > 0;
  }

  /**
   * @returns a whole ciphertext. Throws KmsError: what the token throws, 'value-too-large' where one HSM call cannot take
   * the value and `large_values` is `refuse`.
   */
  async seal(key: SealingKey, plaintext: Buffer, call: Call): Promise<Buffer> {
    const { scheme, maxValueBytes } = key.token;
    const { envelope, largeValues } = this.#scheme;
    if (envelope?.dataKey === 'reuse') {
      return this.#current.use(key, plaintext.length, call, (dataKey, sealed) => sealValue(dataKey, sealed, plaintext));
    }
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
      this.#cache.put(sealed, dataKey);
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
    const opened = await this.#cache.use(
      envelope.dataKey,
      call,
      (shared) => this.#openDataKey(envelope.dataKey, shared),
      (dataKey) => openValue(dataKey, envelope),
    );
    return opened.value ?? this.#judgeValue(envelope, opened.misfit, call);
  }

  /** Has a data key at hand before the first value comes, and from then on, where one serves many values. */
  keepReady(key: SealingKey): void {
    this.#current.keepReady(key);
  }

  /** Keeps no data key of another key than these ids. */
  keepOnly(keyIds: ReadonlySet<string>): void {
    this.#cache.keepOnly(keyIds);
    this.#current.keepOnly(keyIds);
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
    this.#current.configure(undefined);
  }

  async #sealInToken(key: SealingKey, associatedData: Buffer, plaintext: Buffer, call: Call): Promise<Buffer> {
    const { keyId } = key;
    const { scheme, ivBy } = key.token;
    const body = await this.#token.seal(keyId, scheme, associatedData, plaintext, call);
    if (body.length !== sealedBytes(scheme, plaintext.length)) throw nonsense(keyId, 'a ciphertext of a wrong length');
    if (ivBy === 'hsm') this.#guard.check(keyId, scheme, body);
    return body;
  }

  async #makeDataKey(key: SealingKey, call: Call): Promise<NewDataKey> {
    const { keyId } = key;
    const { scheme } = key.token;
    const dataKey = newDataKey();
    try {
      const body = await this.#sealInToken(key, dataKeyAssociatedData(keyId, scheme), dataKey, call);
      const sealed = sealedDataKey(keyId, scheme, body);
      this.#dataKeysMade++;
      return { dataKey, sealed };
    } catch (error) {
      dataKey.fill(0);
      throw error;
    }
  }

  /** A data key that many values will depend on: the HSM has opened it again once. */
  async #makeProvenDataKey(key: SealingKey, call: Call): Promise<NewDataKey> {
    const made = await this.#makeDataKey(key, call);
    try {
      const opened = await this.#openDataKey(made.sealed, call);
      const isSame = opened.equals(made.dataKey);
      opened.fill(0);
      if (!isSame) throw nonsense(key.keyId, 'another data key than it was given');
      this.#cache.put(made.sealed, made.dataKey);
      return made;
    } catch (error) {
      made.dataKey.fill(0);
      // Nothing is wrong with the value that waits to be encrypted.
      if (error instanceof KmsError && error.status === 'INVALID_ARGUMENT') {
        throw nonsense(key.keyId, 'a data key that it does not open', error);
      }
      throw error;
    }
  }

  #openDataKey(dataKey: SealedDataKey, call: Call): Promise<Buffer> {
    return this.#askForDataKey(dataKey, (...request) => this.#token.open(...request, call));
  }

  /**
   * A value's tag is wrong under the data key that the HSM gave. Any answer of an HSM may be wrong, this one as well: the value
   * was changed only if the data key opens to the same bytes again and again.
   * @param misfit - fingerprint of the data key that did not fit.
   */
  async #judgeValue(envelope: EnvelopeBody, misfit: string, call: Call): Promise<Buffer> {
    const { dataKey: sealed } = envelope;
    const dataKey = await this.#askForDataKey(sealed, (...request) => this.#token.openSurely(...request, call));
    try {
      const value = openValue(dataKey, envelope);
      if (value !== undefined) {
        this.#cache.put(sealed, dataKey);
        return value;
      }
      if (fingerprint(dataKey) === misfit) throw changedValue();
    } finally {
      dataKey.fill(0);
    }
    throw new KmsError(
      'token-away',
      `the HSM opened a data key under key ${sealed.keyId} to other bytes than before; what it says of a ciphertext is not believed. Look at the HSM`,
      { keyId: sealed.keyId },
    );
  }

  async #askForDataKey(
    dataKey: SealedDataKey,
    ask: (keyId: string, scheme: TokenScheme, associatedData: Buffer, body: Buffer) => Promise<Buffer>,
  ): Promise<Buffer> {
    const { keyId, innerScheme } = dataKey;
    const opened = await ask(keyId, innerScheme, dataKeyAssociatedData(keyId, innerScheme), sealedPart(dataKey));
    if (opened.length === DATA_KEY_BYTES) return opened;
    opened.fill(0);
    // Its tag or MAC was right, so it is what the HSM was given.
    throw nonsense(keyId, 'a data key of a wrong length');
  }
}

const nonsense = (keyId: string, what: string, cause?: unknown): KmsError =>
  new KmsError(
    'internal',
    `the HSM gave ${what} back under key ${keyId}; nothing of it was used. Look at the HSM, and call its vendor`,
    { keyId },
    cause,
  );
