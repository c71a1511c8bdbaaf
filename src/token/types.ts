import type { Call } from '../call/index.ts';

/** Ciphertext schemes that a token itself can do; scheme 4 is built on them by the cipher. */
export type TokenScheme = 1 | 2 | 3;

/** 'refused': the PIN was refused and is remembered; nothing is tried until an operator acts. */
export type TokenState = 'starting' | 'ready' | 'away' | 'refused';

/** What a listed key looks like on the token. */
export interface TokenKey {
  /** The label it was found under. */
  readonly label: string;
  /** Every id that can be computed for it, 32 hex digits; the first is this token's natural one. */
  readonly ids: readonly string[];
  readonly idKinds: readonly ('check-value' | 'cka-id')[];
  readonly scheme: TokenScheme;
  readonly sizeBits: number | undefined;
  readonly attributes: Readonly<Record<string, boolean | string | undefined>>;
  /** Why it must not be used, in the operator's words; empty when it may. */
  readonly problems: readonly string[];
  /** Problems that `allow_unsafe` accepts (extractable, not sensitive …). */
  readonly unsafe: readonly string[];
}

/** A listed key to look for. */
export interface KeyQuery {
  readonly label: string;
  readonly macLabel: string | undefined;
  readonly sizeBits: 128 | 192 | 256;
}

/**
 * A partition that encrypts and decrypts: the seam behind which every HSM stands. Retries, sessions, login and the
 * token process's death are its own affair: a call fails only when contract times have passed.
 */
export interface Token {
  /** Seals `plaintext` with the key of that id: the body of `scheme`'s ciphertext (IV, ciphertext, tag). */
  seal(keyId: string, scheme: TokenScheme, associatedData: Buffer, plaintext: Buffer, call: Call): Promise<Buffer>;
  /** The reverse. Throws 'not-authentic' only when that is proven. */
  open(keyId: string, scheme: TokenScheme, associatedData: Buffer, body: Buffer, call: Call): Promise<Buffer>;
  /** Searches the token for listed keys, now. */
  find(queries: readonly KeyQuery[], call: Call): Promise<readonly TokenKey[]>;
  /** Makes a key with attributes that keep it inside; finds it again. The caller has checked that none exists. */
  create(query: KeyQuery, call: Call): Promise<void>;
  report(): TokenReport;
  /** Calls back after every change of state; returns the function that ends it. */
  onChange(listener: () => void): () => void;
  /** Tries again at once (after `pin clear`, or an operator's wish). */
  reconnect(): void;
  close(): Promise<void>;
}

/** What operators see of the token and its process. */
export interface TokenReport {
  readonly state: TokenState;
  /** In the operator's words: partition, CKR_ name, what to do. 'ok' when ready. */
  readonly reason: string;
  /** ISO time since when it is in this state. */
  readonly since: string;
  readonly process: { readonly pid: number | undefined; readonly restarts: number; readonly started: string | undefined };
  readonly module: { readonly path: string; readonly description?: string; readonly version?: string };
  readonly token?: {
    readonly slot: number;
    readonly label: string;
    readonly serial: string;
    readonly manufacturer: string;
    readonly model: string;
    readonly firmware: string;
    readonly flags: readonly string[];
  };
  readonly profile?: string;
  readonly sessions?: { readonly open: number; readonly limit: number };
  readonly lastError?: { readonly at: string; readonly message: string };
  /** ISO time of the last answer of the HSM that was good. */
  readonly lastGood?: string;
}
