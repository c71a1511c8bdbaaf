/** A keyring on a token of its own, from source; the token process runs from the bundle. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ownCall } from '../../../src/call/index.ts';
import type { Config, KeyConfig, LimitsConfig, SchemeConfig, TokenConfig } from '../../../src/config/index.ts';
import { KmsError, type FailureKind } from '../../../src/errors/index.ts';
import { createKeyring, type HsmKeyring } from '../../../src/keyring/index.ts';
import { createToken, type Token } from '../../../src/token/index.ts';
import { KeptLog } from '../../api/support/log.ts';
import { makeSoftHsm, type Hsm, type KeyOptions } from '../../hsm/index.ts';
import { faultyModule, type FaultyModule } from '../../module/index.ts';
import { ensureBundle } from './bundle.ts';

export const LIMITS: LimitsConfig = {
  callDeadlineMs: 10_000,
  hideMs: 2_000,
  inFlight: 64,
  queued: 256,
  connections: 64,
  valueBytes: 1_048_576,
  messageBytes: 4_194_304,
  shutdownMs: 10_000,
};

export interface Wishes {
  readonly keys?: readonly (Partial<KeyConfig> & { readonly label: string })[];
  readonly retired?: readonly string[];
  readonly scheme?: Partial<SchemeConfig>;
  readonly token?: Partial<TokenConfig>;
  readonly limits?: Partial<LimitsConfig>;
  /** Shortest time after which a hanging token process is killed. */
  readonly killAfterMs?: number;
  /** Another host's or an earlier run's state; a new directory by default. */
  readonly stateDir?: string;
  /** How often keys that were all found are looked for again, in milliseconds. */
  readonly lookMs?: number;
}

/** One plugin's keyring and token, and its log. */
export interface Host {
  readonly token: Token;
  readonly keyring: HsmKeyring;
  readonly log: KeptLog;
  readonly stateDir: string;
  readonly config: Config;
  /** @param milliseconds how long the caller waits. */
  encrypt(plaintext: Buffer, milliseconds?: number): Promise<Buffer>;
  decrypt(ciphertext: Buffer, milliseconds?: number): Promise<Buffer>;
  /** Resolves when the token is ready, however often it is away before; after 20 s it throws. */
  ready(): Promise<void>;
  /** The log's lines of a level, as text. */
  said(level: 'error' | 'warn' | 'info'): string[];
  close(): Promise<void>;
}

/** How a token is reached. */
export type Reach = Pick<TokenConfig, 'module' | 'partition' | 'environment' | 'initArgs'> & {
  readonly pinFile: string;
};

/** Plugins on one token, with a directory for their state. */
export class Hosts {
  readonly #reach: Reach;
  readonly #directory = mkdtempSync(path.join(tmpdir(), 'hosts-'));
  readonly #hosts: Host[] = [];
  #states = 0;

  constructor(reach: Reach) {
    ensureBundle();
    this.#reach = reach;
  }

  config(wishes: Wishes, stateDir: string): Config {
    const keys = wishes.keys ?? [{ label: 'active' }];
    return {
      file: path.join(this.#directory, 'kms-plugin.yml'),
      directory: this.#directory,
      stateDir,
      controlSocket: path.join(stateDir, 'control.sock'),
      listeners: [],
      token: {
        ...this.#reach,
        login: 'user',
        pinDespiteFlag: false,
        profile: 'auto',
        sessions: 8,
        vendorTimeoutMs: 20_000,
        ...wishes.token,
      },
      keys: keys.map((key, index) => ({
        state: index === 0 ? 'active' : 'decrypt',
        create: false,
        size: 256,
        allowUnsafe: false,
        ...key,
      })),
      retiredKeys: wishes.retired ?? [],
      scheme: { name: 'direct', largeValues: 'data-key', ...wishes.scheme },
      limits: { ...LIMITS, ...wishes.limits },
      health: { address: '127.0.0.1', port: 0 },
      log: { level: 'info' },
      warnings: [],
    };
  }

  newStateDir(): string {
    return mkdtempSync(path.join(this.#directory, `state-${this.#states++}-`));
  }

  /** Starts a plugin on the token, without waiting for it. */
  host(wishes: Wishes = {}): Host {
    const stateDir = wishes.stateDir ?? this.newStateDir();
    const config = this.config(wishes, stateDir);
    const log = new KeptLog();
    const token = createToken({
      config: config.token,
      stateDir,
      directory: config.directory,
      limits: config.limits,
      log,
      ...(wishes.killAfterMs === undefined ? {} : { killAfterMs: wishes.killAfterMs }),
    });
    const keyring = createKeyring({
      token,
      config,
      stateDir,
      log,
      ...(wishes.lookMs === undefined ? {} : { lookMs: wishes.lookMs }),
    });
    let closed = false;
    const host: Host = {
      token,
      keyring,
      log,
      stateDir,
      config,
      encrypt: async (plaintext, milliseconds = LIMITS.callDeadlineMs) =>
        (await keyring.encrypt(plaintext, ownCall(milliseconds))).ciphertext,
      decrypt: async (ciphertext, milliseconds = LIMITS.callDeadlineMs) =>
        (await keyring.decrypt(ciphertext, ownCall(milliseconds))).plaintext,
      ready: () => isReady(token),
      said: (level) => log.lines.filter((line) => line.level === level).map((line) => line.message),
      close: async () => {
        if (closed) return;
        closed = true;
        await keyring.close();
      },
    };
    keyring.start();
    this.#hosts.push(host);
    return host;
  }

  /** The same, and waits until it is ready. */
  async readyHost(wishes: Wishes = {}): Promise<Host> {
    const host = this.host(wishes);
    await host.ready();
    return host;
  }

  async closeAll(): Promise<void> {
    await Promise.all(this.#hosts.splice(0).map((host) => host.close()));
  }

  removeState(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** A SoftHSM2 token behind the faulty module. */
export class Bench extends Hosts {
  readonly hsm: Hsm;
  readonly faulty: FaultyModule;

  private constructor(hsm: Hsm, faulty: FaultyModule) {
    super({
      module: faulty.path,
      partition: { by: 'label', label: hsm.label },
      environment: faulty.environment,
      pinFile: hsm.userPinFile(),
    });
    this.hsm = hsm;
    this.faulty = faulty;
  }

  /** A new token with these keys. */
  static async make(keys: Readonly<Record<string, KeyOptions>> = { active: {} }): Promise<Bench> {
    const hsm = await makeSoftHsm();
    if (Object.keys(keys).length > 0) await hsm.makeKeys(keys);
    return new Bench(hsm, faultyModule({ inner: hsm.module, innerEnv: hsm.environment }));
  }

  /** Closes every host and makes the module behave, for the next test on the same token. */
  async reset(): Promise<void> {
    this.faulty.control({});
    await this.closeAll();
  }

  async cleanup(): Promise<void> {
    await this.reset();
    this.faulty.cleanup();
    await this.hsm.cleanup();
    this.removeState();
  }
}

async function isReady(token: Token): Promise<void> {
  const until = performance.now() + 20_000;
  while (token.condition().state !== 'ready') {
    if (performance.now() > until) throw new Error(`not ready: ${token.condition().reason}`);
    await sleep(10);
  }
}

/** The KmsError that some work fails with. */
export async function failure(work: Promise<unknown>): Promise<KmsError> {
  try {
    await work;
  } catch (error) {
    if (error instanceof KmsError) return error;
    throw error;
  }
  throw new assert.AssertionError({ message: 'it succeeded' });
}

export async function assertFails(work: Promise<unknown>, kind: FailureKind): Promise<KmsError> {
  const error = await failure(work);
  assert.equal(error.kind, kind, error.message);
  return error;
}
