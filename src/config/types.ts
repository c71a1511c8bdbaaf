/** The configuration file's contents after every check: defaults filled in, paths absolute, times in milliseconds, sizes in bytes. */

export type ApiName = 'v1beta1' | 'v2';

export interface ListenerTls {
  readonly certificateFile: string;
  readonly privateKeyFile: string;
  /** CA and host name are for our own clients (roundtrip, doctor) only. */
  readonly caFile?: string;
  readonly host?: string;
}

export interface ListenerConfig {
  readonly name: string;
  /** An absolute path, or the abstract name without its leading NUL. */
  readonly endpoint:
    { readonly kind: 'path'; readonly path: string } | { readonly kind: 'abstract'; readonly name: string };
  readonly apis: readonly ApiName[];
  readonly tls?: ListenerTls;
  /** Permission bits of the socket, e.g. 0o600. */
  readonly mode: number;
  /** How long a new connection's calls wait for the token; 0 is off. */
  readonly patienceMs: number;
  readonly allowUnprotected: boolean;
}

/** `slot`: a CK_SLOT_ID in decimal, since it may be larger than a number holds exactly (2^53). */
export type PartitionSelector =
  | { readonly by: 'label'; readonly label: string }
  | { readonly by: 'serial'; readonly serial: string }
  | { readonly by: 'slot'; readonly slot: string };

export type ProfileName = 'auto' | 'gcm' | 'cloudhsm' | 'luna-fips' | 'nshield-fips' | 'cbc-hmac';

export interface TokenConfig {
  /** Absolute path of the PKCS#11 module (a shared library). */
  readonly module: string;
  readonly partition: PartitionSelector;
  /** 'user', 'none', or the vendor's own user type (a CK_USER_TYPE number). */
  readonly login: 'user' | 'none' | number;
  /** Absolute path; absent only with login 'none'. */
  readonly pinFile?: string;
  readonly pinFileNewline?: 'keep' | 'strip';
  /** Log in with the PIN although the token shows CKF_PROTECTED_AUTHENTICATION_PATH (Luna with a challenge secret). */
  readonly pinDespiteFlag: boolean;
  /** Text that the module takes at C_Initialize, beyond the standard (NSS softokn); most take none. */
  readonly initArgs?: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly profile: ProfileName;
  readonly sessions: number;
  readonly vendorTimeoutMs: number;
}

export interface KeyConfig {
  /** What the key is called here: its label on the token, or where it is found by its CKA_ID alone, `cka_id:` and that. */
  readonly label: string;
  /** CKA_ID that the AES key must have, in lower-case hex. */
  readonly ckaId?: string;
  /** It is found by its CKA_ID alone, whatever its label is, if it has one. */
  readonly anyLabel?: true;
  readonly state: 'active' | 'decrypt';
  readonly create: boolean;
  /** Names the key, also among several under one label: 32 lower-case hex digits. Encrypt writes it if it can be computed. */
  readonly keyId?: string;
  /** Further ids of the same key: Encrypt writes the first of all that can be computed. */
  readonly moreIds?: readonly string[];
  /** Label of scheme 3's second key; default: the same label. */
  readonly macLabel?: string;
  /** Key size in bits for creation and as a check: 128, 192 or 256. */
  readonly size: 128 | 192 | 256;
  /** Accept unsafe attributes (extractable …) with a warning. */
  readonly allowUnsafe: boolean;
}

/** How long a data key of scheme 4 serves, and which opened ones are kept. */
export interface EnvelopeConfig {
  /** A data key for each value, or one for many. */
  readonly dataKey: 'per-value' | 'reuse';
  /** A reused data key is replaced when the first of these is reached. */
  readonly maxAgeMs: number;
  /** At most 2^32: random 96-bit IVs under one key (NIST SP 800-38D, section 8.3). */
  readonly maxValues: number;
  /** Plaintext bytes under one data key; at least `limits.valueBytes`. */
  readonly maxBytes: number;
  /** Opened data keys kept in memory, in number; 0 keeps none. */
  readonly cacheSize: number;
  /** How long an opened data key is kept; 0 keeps none. */
  readonly cacheTtlMs: number;
}

export interface SchemeConfig {
  readonly name: 'direct' | 'envelope';
  /** What happens to a value that one HSM call cannot take. */
  readonly largeValues: 'data-key' | 'refuse';
  /** Present with name 'envelope'. */
  readonly envelope?: EnvelopeConfig;
}

export interface LimitsConfig {
  readonly callDeadlineMs: number;
  readonly hideMs: number;
  readonly inFlight: number;
  readonly queued: number;
  readonly connections: number;
  readonly valueBytes: number;
  readonly messageBytes: number;
  readonly shutdownMs: number;
}

export interface Config {
  /** Absolute path of the file, and the directory that relative paths start from. */
  readonly file: string;
  readonly directory: string;
  readonly stateDir: string;
  readonly controlSocket: string;
  readonly listeners: readonly ListenerConfig[];
  readonly token: TokenConfig;
  readonly keys: readonly KeyConfig[];
  /** Key ids, 32 lower-case hex digits. */
  readonly retiredKeys: readonly string[];
  readonly scheme: SchemeConfig;
  readonly limits: LimitsConfig;
  /** An IP address; port 0 is any free one. */
  readonly health: { readonly address: string; readonly port: number };
  readonly log: { readonly level: 'error' | 'warn' | 'info' | 'debug' };
  /** The audit trail, an absolute path; absent when there is none. */
  readonly auditFile?: string;
  /** What is allowed but should be looked at. */
  readonly warnings: readonly string[];
}
