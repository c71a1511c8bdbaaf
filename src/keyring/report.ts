/** One listed key as operators see it (`kms-plugin keys list`, status). */
export interface KeyReport {
  readonly label: string;
  readonly state: 'active' | 'decrypt';
  /** Whether this host has encrypted with a key of that label. */
  readonly encryptedHere: boolean;
  /** One entry for each key found on the token under this label; empty when none is. */
  readonly found: readonly FoundKeyReport[];
  /** Trouble in the operator's words, e.g. two keys where one must be chosen. */
  readonly problem?: string;
  /** Key ids of this entry that are in `retired_keys` as well: they count as listed, and one of the two is a mistake. */
  readonly retired?: readonly string[];
}

export interface FoundKeyReport {
  /** Every id that this key answers to, 32 hex digits each; the first is the one it writes. */
  readonly keyIds: readonly string[];
  /** How the written id was made. */
  readonly idKind: 'check-value' | 'cka-id' | 'assumed';
  readonly sizeBits: number | undefined;
  readonly scheme: number;
  readonly attributes: Readonly<Record<string, boolean | string | undefined>>;
  /** Unsafe or unfit attributes, in the operator's words. */
  readonly problems: readonly string[];
  readonly usable: boolean;
  /** Operations since the service started. */
  readonly encrypts: number;
  readonly decrypts: number;
  /** ISO time at which this host saw a key under the label first. */
  readonly firstSeen?: string;
  /** ISO time of the last use, if any. */
  readonly lastUsed?: string;
}
