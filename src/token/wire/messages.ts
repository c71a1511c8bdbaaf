import type { FailureKind } from '../../errors/index.ts';
import type { TokenConfig } from '../../config/index.ts';
import type { KeyQuery, TokenKey, TokenReport, TokenScheme, TokenState } from '../types.ts';
import { FrameError } from './frame.ts';
import { readUint64, writeUint64 } from './uint64.ts';

/**
 * What the frames carry. Encrypt and decrypt are binary, since values travel in them; everything else is JSON.
 *
 *     key id (16) | scheme (1) | expiry (8) | length of associated data (2) | associated data | data
 */
export interface CryptoRequest {
  /** 32 hex digits. */
  readonly keyId: string;
  readonly scheme: TokenScheme;
  /** When the caller stops waiting, by `monotonicMs()`: what starts later is not worth an HSM call. Whole milliseconds travel. */
  readonly expiresAt: number;
  readonly associatedData: Buffer;
  /** Plaintext, or the body of a ciphertext. */
  readonly data: Buffer;
}

const FIXED_BYTES = 27;

/** @returns the payload's parts; `data` itself is not copied. */
export function encodeCryptoRequest(request: CryptoRequest): Buffer[] {
  const head = Buffer.allocUnsafe(FIXED_BYTES + request.associatedData.length);
  head.write(request.keyId, 0, 16, 'hex');
  head.writeUInt8(request.scheme, 16);
  // A deadline far in the past, of before the machine's start, is no number of CLOCK_MONOTONIC.
  writeUint64(head, Math.ceil(Math.min(Math.max(request.expiresAt, 0), Number.MAX_SAFE_INTEGER)), 17);
  head.writeUInt16BE(request.associatedData.length, 25);
  request.associatedData.copy(head, FIXED_BYTES);
  return [head, request.data];
}

/** Throws FrameError for what cannot be such a request: the other side is not trusted to be well. */
export function decodeCryptoRequest(payload: Buffer): CryptoRequest {
  if (payload.length < FIXED_BYTES) throw new FrameError('request is too short');
  const scheme = payload.readUInt8(16);
  if (scheme !== 1 && scheme !== 2 && scheme !== 3) throw new FrameError(`scheme ${scheme} is unknown`);
  const dataAt = FIXED_BYTES + payload.readUInt16BE(25);
  if (dataAt > payload.length) throw new FrameError('associated data is longer than the request');
  return {
    keyId: payload.toString('hex', 0, 16),
    scheme,
    expiresAt: readUint64(payload, 17),
    associatedData: payload.subarray(FIXED_BYTES, dataAt),
    data: payload.subarray(dataAt),
  };
}

/** First request of a token process's life, and only then. */
export interface OpenRequest {
  readonly token: TokenConfig;
  readonly stateDir: string;
  /** Keys to have found before it says 'ready'. */
  readonly queries: readonly KeyQuery[];
  /** After so many failed attempts in a row to reach the token it makes room for a fresh process. */
  readonly attempts: number;
  /**
   * The process before this one lost the token, did not reach it, or died: what the module says of wrong tags is not
   * believed at first.
   */
  readonly afterLoss: boolean;
}

/** Asks for the listed keys, or for the making of one of them. */
export interface KeysRequest {
  readonly queries: readonly KeyQuery[];
  readonly create?: KeyQuery;
}

export interface KeysAnswer {
  readonly keys: readonly TokenKey[];
}

/** Why an operation failed, as the token process tells it. `lost`: try again when the token is ready anew. */
export interface FailedAnswer {
  readonly kind: FailureKind;
  readonly message: string;
  readonly ckr?: string;
  readonly lost: boolean;
}

/** The token process's word on itself, sent at every change. */
export interface StateEvent {
  readonly state: TokenState;
  readonly reason: string;
  /** The listed keys as found last. */
  readonly keys: readonly TokenKey[];
  readonly details: Partial<Pick<TokenReport, 'module' | 'token' | 'profile' | 'sessions' | 'stage'>>;
  /** What calls fail with while the state is 'refused'. */
  readonly failure?: 'pin-refused' | 'pin-not-initialized';
  /** The next attempt is more than a second away, unless an operator does something. */
  readonly paused?: true;
  /** It is to be replaced: the module needs a fresh process, and nothing crashed. */
  readonly wornOut?: true;
  /** Lines for the log, e.g. key attributes that differ; never a secret. */
  readonly notes?: readonly string[];
}

/** IVs of ours since the last one, by key id, beyond one for each request to encrypt; sent before the answer that goes with them. */
export interface IvEvent {
  readonly ivs: Readonly<Record<string, number>>;
}

/** Sent every second in between: the process itself is alive, whatever the module does. */
export interface AliveEvent {
  readonly alive: true;
  readonly sessions?: TokenReport['sessions'];
  /** The token's flags as it showed them last; absent while it is not connected. */
  readonly flags?: readonly string[];
  /** What is wrong with the PIN file, though the token is logged in. */
  readonly pinFile?: string;
}

export const encodeJson = (value: unknown): Buffer[] => [Buffer.from(JSON.stringify(value), 'utf8')];

/**
 * @returns what the sender put in: both ends are one release, so callers take its shape as typed.
 * Throws FrameError when the payload is no JSON.
 */
export function decodeJson(payload: Buffer): unknown {
  try {
    return JSON.parse(payload.toString('utf8')) as unknown;
  } catch {
    throw new FrameError('payload is not JSON');
  }
}
