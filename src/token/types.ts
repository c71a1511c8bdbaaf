import type { Call } from '../call/index.ts';
import type { LimitsConfig } from '../config/index.ts';

/** Ciphertext schemes that a token itself can do; scheme 4 is built on them by the cipher. */
export type TokenScheme = 1 | 2 | 3;

/** 'refused': the PIN was refused and is remembered; nothing is tried until an operator acts. */
export type TokenState = 'starting' | 'ready' | 'away' | 'refused';

/** Where on the way to the HSM it stops: the process, its vendor's library, slot and token, or the login there. */
export type TokenStage = 'token process' | 'module' | 'token' | 'login';

/** What a listed key looks like on the token. */
export interface TokenKey {
  /** The label it was found under. */
  readonly label: string;
  /** False for what is under the label and no AES key: it has no ids, and its problems say what it is. */
  readonly isKey: boolean;
  /** Every id that it answers to, with how; the first is the one that this token's scheme calls for. */
  readonly ids: readonly { readonly id: string; readonly kind: KeyIdKind }[];
  /** False where an id made from its bytes could not be computed: it may answer to others than these. */
  readonly allIdsKnown: boolean;
  /** Scheme that it encrypts with on this token. */
  readonly scheme: TokenScheme;
  /** Who chooses the IV: what this side chooses is counted, what the HSM makes is checked. */
  readonly ivBy: 'caller' | 'hsm';
  /** Largest value in bytes that one call of this token takes; undefined where no limit is known. */
  readonly maxValueBytes: number | undefined;
  readonly sizeBits: number | undefined;
  readonly attributes: Readonly<Record<string, boolean | string | undefined>>;
  /** Why it cannot be used at all, in the operator's words; empty when it can. */
  readonly problems: readonly string[];
  /** Why it cannot encrypt, though it may decrypt. */
  readonly sealProblems: readonly string[];
  /** What `allow_unsafe` accepts with a warning (extractable, not sensitive, another size). */
  readonly unsafe: readonly string[];
  /** The same of scheme 3's second key: counts for what scheme 3 encrypts and decrypts. */
  readonly macUnsafe: readonly string[];
  /** What an operator should know of it, or of an object beside it that is left out. */
  readonly notes: readonly string[];
}

/**
 * 'check-value': from an AES block (and an HMAC) under the key. 'cka-id': from CKA_ID, where the token forbids both.
 * 'assumed': it cannot be computed any more, and memory or `key_id` says that it is this key's: for Decrypt only.
 */
export type KeyIdKind = 'check-value' | 'cka-id' | 'assumed';

/** A listed key to look for. */
export interface KeyQuery {
  /** What it is called: its label, unless `anyLabel`. */
  readonly label: string;
  /** CKA_ID of the AES key, in hex. */
  readonly ckaId?: string;
  /** Found by `ckaId` alone. */
  readonly anyLabel?: true;
  readonly macLabel: string | undefined;
  readonly sizeBits: 128 | 192 | 256;
  /** The active key: asked for first, and its scheme tried before it is used. */
  readonly active: boolean;
  /** Ids that were computed before for a key under this label with that CKA_ID (hex). */
  readonly remembered: readonly { readonly id: string; readonly ckaId: string }[];
  /** Ids that the configuration gives it. */
  readonly given: readonly string[];
}

/**
 * A partition that encrypts and decrypts: the seam behind which every HSM stands. Retries, sessions, login and the
 * token process's death are its own affair: a call fails only when contract times have passed.
 */
export interface Token {
  /** Starts to reach the token, with the listed keys to look for there. Returns at once. */
  start(queries: readonly KeyQuery[]): void;
  /** The listed keys as last found; empty before. */
  keys(): readonly TokenKey[];
  /** Resolves when the token can be asked. Throws like `seal`. */
  ready(call: Call): Promise<void>;
  /** Seals `plaintext` with the key of that id: the body of `scheme`'s ciphertext (IV, ciphertext, tag). */
  seal(keyId: string, scheme: TokenScheme, associatedData: Buffer, plaintext: Buffer, call: Call): Promise<Buffer>;
  /** The reverse. Throws 'not-authentic' only when that is proven. */
  open(keyId: string, scheme: TokenScheme, associatedData: Buffer, body: Buffer, call: Call): Promise<Buffer>;
  /**
   * Opens a data key under which a value's tag is wrong: many times, on two sessions, between known answers. Throws like
   * `open`, and 'unproven' where it cannot be known whether the token or the value is at fault.
   */
  openSurely(keyId: string, scheme: TokenScheme, associatedData: Buffer, body: Buffer, call: Call): Promise<Buffer>;
  /** Calls back with the IVs that this side chose under a key, whatever for; never fewer than there were. */
  onIvs(listener: (keyId: string, ivs: number) => void): void;
  /** Searches the token for listed keys, now. */
  find(queries: readonly KeyQuery[], call: Call): Promise<readonly TokenKey[]>;
  /** Makes a key with attributes that keep it inside; finds it again. The caller has checked that none exists. */
  create(query: KeyQuery, call: Call): Promise<void>;
  /** Its state and, in the operator's words, why; cheap enough for every call. */
  condition(): { readonly state: TokenState; readonly reason: string };
  report(): TokenReport;
  /** Takes other limits: how long an absence is hidden, how long a call may take, how many may be under way. */
  configure(limits: LimitsConfig): void;
  /** Calls back after every change of state; returns the function that ends it. */
  onChange(listener: () => void): () => void;
  /** Known-answer call, for health. Throws like `seal`. */
  probe(call: Call): Promise<void>;
  /** Tries again at once where it waits for an operator (after `pin clear`, or a new PIN). */
  reconnect(): void;
  close(): Promise<void>;
}

/** What operators see of the token and its process. */
export interface TokenReport {
  readonly state: TokenState;
  /** In the operator's words: partition, CKR_ name, what to do. 'ok' when ready. */
  readonly reason: string;
  /** How far it came; undefined when ready. */
  readonly stage?: TokenStage;
  /** ISO time since when it is in this state. */
  readonly since: string;
  readonly process: {
    readonly pid: number | undefined;
    /** Successors of processes that ended by themselves, or were killed because they hung. */
    readonly restarts: number;
    /** Successors of processes that were ended on purpose, since some modules notice a token's return only in a new one. */
    readonly replaced: number;
    /** ISO time of the last of `restarts`. */
    readonly lastRestart?: string;
    readonly started: string | undefined;
  };
  readonly module: { readonly path: string; readonly description?: string; readonly version?: string };
  readonly token?: {
    /** A CK_SLOT_ID in decimal. */
    readonly slot: string;
    readonly label: string;
    readonly serial: string;
    readonly manufacturer: string;
    readonly model: string;
    readonly firmware: string;
    readonly flags: readonly string[];
  };
  readonly profile?: string;
  /** What is wrong with the PIN file by now, though the token is logged in; the next login will meet it. */
  readonly pinFile?: string;
  readonly sessions?: { readonly open: number; readonly limit: number };
  readonly lastError?: { readonly at: string; readonly message: string };
  /** ISO time of the last answer of the HSM that was good. */
  readonly lastGood?: string;
}
