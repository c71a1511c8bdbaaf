import type { ApiServer, ApiServerOptions } from '../api/index.ts';
import type { Call } from '../call/index.ts';
import type { Config, LimitsConfig, TokenConfig } from '../config/index.ts';
import type { Keyring } from '../keyring/index.ts';
import type { Log } from '../log/index.ts';
import type { Token } from '../token/index.ts';

/** The keyring as its owner has it. */
export interface OwnedKeyring extends Keyring {
  /** Begins to look for the listed keys, in the background. */
  start(): void;
  reload(config: Config): void;
  createKey(label: string, call: Call): Promise<unknown>;
  close(): void | Promise<void>;
}

export interface TokenOptions {
  readonly config: TokenConfig;
  readonly stateDir: string;
  readonly directory: string;
  readonly limits: LimitsConfig;
  readonly log: Log;
}

export interface KeyringOptions {
  readonly token: Token;
  readonly config: Config;
  readonly stateDir: string;
  readonly log: Log;
}

/** The rooms that the service puts together; tests put others in their place. */
export interface Parts {
  createToken(options: TokenOptions): Token;
  createKeyring(options: KeyringOptions): OwnedKeyring;
  createApiServer(options: ApiServerOptions): ApiServer;
}
