import { setTimeout as sleep } from 'node:timers/promises';
import type { KeyQuery, TokenKey, TokenStage, TokenState } from '../types.ts';
import { CkrError, Pkcs11Module, type TokenFacts } from '../pkcs11/module.ts';
import type { AliveEvent, CryptoRequest, OpenRequest, StateEvent } from '../wire/messages.ts';
import { IvTally } from './iv-tally.ts';
import { LoginError, logIn, outsideLogins } from './login.ts';
import { OperationError } from './operation-error.ts';
import { Operations } from './operations.ts';
import { IvError } from '../profiles/index.ts';
import { AskAgainError, describeSelector, Partition, PartitionError, Refusals } from './partition.ts';
import { PinWatch } from './pin-watch.ts';
import { explain, flagNames, stageOf, stateDetails } from './state-details.ts';

/** Pause between two attempts to reach a token that is away, in milliseconds: its return is noticed within a second. */
const RETRY_MIN_MS = 150;
const RETRY_JITTER_MS = 350;
/** Pause before the login after the one that refused a key's check value, in milliseconds: trouble of a moment passes. */
const ASK_AGAIN_MS = 1_000;
/** After this many failures the module itself is started anew (C_Finalize, C_Initialize): some notice a return only then. */
const REINITIALIZE_FROM = 1;
/** A key's handle means nothing any more, though the token may be well: the key was destroyed, restored or moved. */
const STALE_HANDLE: ReadonlySet<string> = new Set(['CKR_OBJECT_HANDLE_INVALID', 'CKR_KEY_HANDLE_INVALID']);
/** How often a connected token's flags are read again, in milliseconds: somebody else may give it wrong PINs. */
const FLAGS_MS = 30_000;
/** How soon a login that must wait for an operator's deed is looked at again, without C_Login, in milliseconds. */
const REFUSED_RETRY_MS = 5_000;

export interface EngineEvents {
  state(event: StateEvent): void;
}

/**
 * The life of the connection to one partition: connect, serve, lose, connect again, for ever. It never gives up because
 * of the HSM; it stops trying only where another C_Login could lock the partition.
 */
export class Engine {
  readonly #settings: OpenRequest;
  readonly #events: EngineEvents;
  readonly #pinWatch: PinWatch | undefined;
  /** IVs of ours beyond one for each request to encrypt. */
  readonly ivs = new IvTally();
  #module: Pkcs11Module | undefined;
  #queries: readonly KeyQuery[];
  #partition: Partition | undefined;
  #operations: Operations | undefined;
  #lastToken: TokenFacts | undefined;
  #state: TokenState = 'starting';
  #reason = '';
  #stage: TokenStage | undefined;
  /** The next connection is made after trouble: a loss, or an attempt that failed. */
  #afterLoss: boolean;
  #connecting = false;
  #doubting: Promise<void> | undefined;
  /** The making of keys, one after the other. */
  #creating: Promise<unknown> = Promise.resolve();
  #notes: string[] = [];
  readonly #refusals = new Refusals();
  #flagsDue = 0;
  /** Operations inside the module: it must not be finalized under them. */
  #inside = 0;
  /** Operations that had come back when `moves` was asked last. */
  #endedBefore = 0;

  constructor(settings: OpenRequest, events: EngineEvents) {
    this.#settings = settings;
    this.#events = events;
    const { login, pinFile, pinFileNewline } = settings.token;
    if (login !== 'none' && pinFile !== undefined)
      this.#pinWatch = new PinWatch(pinFile, pinFileNewline, settings.stateDir);
    this.#queries = settings.queries;
    this.#afterLoss = settings.afterLoss;
  }

  start(): void {
    void this.#connectUntilReady('starting');
  }

  /** Throws OperationError. The request's data is zeroed. */
  async seal(request: CryptoRequest): Promise<Buffer> {
    return this.#guard((operations) => operations.seal(request)).finally(() => request.data.fill(0));
  }

  /** Throws OperationError. */
  async open(request: CryptoRequest): Promise<Buffer> {
    return this.#guard((operations) => operations.open(request)).finally(() => request.data.fill(0));
  }

  /** Opens it many times, on two sessions. Throws OperationError. The request's data is zeroed. */
  async openSurely(request: CryptoRequest): Promise<Buffer> {
    return this.#guard((operations) => operations.openSurely(request)).finally(() => request.data.fill(0));
  }

  /** Throws OperationError. */
  async probe(): Promise<void> {
    await this.#guard((operations) => operations.probe());
  }

  /** Searches for the keys and remembers to have them found after every loss. Throws OperationError. */
  async keys(queries: readonly KeyQuery[]): Promise<readonly TokenKey[]> {
    this.#queries = queries;
    await this.#guard(async (_operations, partition) => {
      try {
        await partition.search(queries);
      } catch (thrown) {
        if (thrown instanceof AskAgainError && partition === this.#partition) {
          this.#disconnect();
          void this.#connectUntilReady('starting', thrown.message);
        }
        throw thrown;
      }
    });
    return this.#partition?.keys ?? [];
  }

  /**
   * Makes one key, unless there is one under its label. Throws OperationError, 'lost' only before C_GenerateKey was called.
   * @returns the keys that were found before.
   *
   * One after the other: an HSM may take longer than the first caller waits, and who asks again must find that key.
   */
  async create(query: KeyQuery): Promise<readonly TokenKey[]> {
    const turn = this.#creating.then(() =>
      this.#guard((_operations, partition) => outsideLogins(this.#settings.stateDir, () => partition.create(query))),
    );
    this.#creating = turn.catch(() => undefined);
    await turn;
    return this.#partition?.keys ?? [];
  }

  /** What is worth knowing while nothing happens: sessions, what the token says of its PIN by now, and the PIN file. */
  vitals(): Omit<AliveEvent, 'alive'> {
    const partition = this.#partition;
    const pinFile = partition === undefined ? undefined : this.#pinWatch?.look();
    const now = performance.now();
    if (partition !== undefined && now >= this.#flagsDue) {
      this.#flagsDue = now + FLAGS_MS;
      partition.readFlags();
    }
    return {
      sessions: { open: partition?.pool.open ?? 0, limit: partition?.pool.limit ?? 0 },
      ...(partition === undefined ? {} : { flags: flagNames(partition.token.flags) }),
      ...(pinFile === undefined ? {} : { pinFile }),
    };
  }

  /**
   * False where an operation hangs in the module while it connects: nothing came back since this was asked last. Nobody waits
   * for such an operation by a request of his own, and the main thread is free to say that it is alive.
   */
  moves(): boolean {
    const { inside, ended } = this.#module?.progress ?? { inside: 0, ended: 0 };
    const stands = this.#connecting && inside > 0 && ended === this.#endedBefore;
    this.#endedBefore = ended;
    return !stands;
  }

  /** Gives sessions back to the HSM, unless a call is still inside the module. */
  close(): void {
    if (this.#inside > 0) return;
    this.#disconnect();
    try {
      if (this.#module?.initialized === true) this.#module.finalize();
    } catch {
      // The process ends anyway.
    }
  }

  /** Runs `work` while connected; what the token is to blame for starts a new connection. */
  async #guard<T>(work: (operations: Operations, partition: Partition) => Promise<T>): Promise<T> {
    const partition = this.#partition;
    const operations = this.#operations;
    if (partition === undefined || operations === undefined) {
      throw new OperationError('token-away', 'the token is not connected', { lost: true });
    }
    this.#inside++;
    try {
      return await work(operations, partition);
    } catch (thrown) {
      const error = asOperationError(thrown, partition.token.label);
      if (error instanceof OperationError && error.lost) {
        operations.distrust();
        if (partition === this.#partition) await this.#doubt(error);
      }
      throw error;
    } finally {
      this.#inside--;
    }
  }

  /**
   * An operation failed on a token that may be well otherwise: only known answers that fail, too, end the connection.
   * However many operations fail at once, one check is made.
   */
  #doubt(error: OperationError): Promise<void> {
    this.#doubting ??= this.#check(error).finally(() => (this.#doubting = undefined));
    return this.#doubting;
  }

  async #check(error: OperationError): Promise<void> {
    const partition = this.#partition;
    const operations = this.#operations;
    if (partition === undefined || operations === undefined) return;
    try {
      // The second has a session of its own: one that died unnoticed is no loss of the token.
      await operations.probe().catch(() => operations.probe());
      if (error.ckr === undefined || !STALE_HANDLE.has(error.ckr)) return;
      await partition.search(this.#queries);
      if (partition === this.#partition) this.#setState('ready', 'ok');
    } catch {
      if (partition !== this.#partition) return;
      this.#disconnect();
      void this.#connectUntilReady('away', error.message);
    }
  }

  #disconnect(): void {
    this.#partition?.close();
    this.#partition = undefined;
    this.#operations = undefined;
  }

  async #connectUntilReady(state: 'starting' | 'away', reason = 'connecting to the token'): Promise<void> {
    if (this.#connecting) return;
    this.#connecting = true;
    this.#setState(state, reason, { stage: 'token' });
    try {
      for (let failures = 0; ;) {
        const pause = await this.#connectOnce(failures);
        if (pause === undefined) return;
        failures = this.#state === 'away' ? failures + 1 : 0;
        if (failures >= this.#settings.attempts) {
          this.#setState('away', this.#reason, { stage: this.#stage, wornOut: true });
          return;
        }
        await sleep(pause);
      }
    } finally {
      this.#connecting = false;
    }
  }

  /** @returns undefined when connected, else how many milliseconds to wait before the next attempt. */
  async #connectOnce(failures: number): Promise<number | undefined> {
    try {
      const module = await this.#freshModule(failures);
      const { token: config, stateDir } = this.#settings;
      const partition = await Partition.connect(
        module,
        config,
        async (token, session) => {
          this.#lastToken = token;
          const warning = await logIn(module, config, stateDir, token, session, this.#pinWatch);
          if (warning !== undefined) this.#notes.push(warning);
        },
        this.#queries,
        this.ivs,
        this.#refusals,
      );
      this.#partition = partition;
      this.#operations = new Operations(partition, { afterLoss: this.#afterLoss, ivs: this.ivs });
      this.#afterLoss = true;
      this.#setState('ready', 'ok');
      return undefined;
    } catch (thrown) {
      if (thrown instanceof LoginError) return this.#loginFailed(thrown);
      if (thrown instanceof AskAgainError) {
        this.#notes.push(thrown.message);
        return ASK_AGAIN_MS;
      }
      this.#afterLoss = true;
      this.#setState('away', this.#explain(thrown), { stage: stageOf(thrown) });
      return RETRY_MIN_MS + Math.random() * RETRY_JITTER_MS;
    }
  }

  #loginFailed(error: LoginError): number {
    const { outcome } = error;
    const stage = stageOf(error);
    switch (outcome.kind) {
      case 'refused':
        this.#setState('refused', error.message, { stage, failure: 'pin-refused', paused: true });
        // Looked at again without C_Login: `pin clear` or a new PIN in the file end this state.
        return REFUSED_RETRY_MS;
      case 'not-initialized':
        this.#setState('refused', error.message, { stage, failure: 'pin-not-initialized', paused: true });
        return REFUSED_RETRY_MS;
      case 'later':
        this.#setState('away', error.message, { stage, paused: true });
        return Math.max(RETRY_MIN_MS, outcome.retryAfterMs);
    }
  }

  async #freshModule(failures: number): Promise<Pkcs11Module> {
    const isFirst = this.#module === undefined;
    const module = (this.#module ??= new Pkcs11Module(this.#settings.token.module, this.#settings.token.initArgs));
    if (isFirst) await outsideLogins(this.#settings.stateDir, () => module.initialize());
    if (module.initialized && failures >= REINITIALIZE_FROM && this.#inside === 0) {
      try {
        module.finalize();
      } catch {
        // A module that cannot even be finalized is started anew below, or by the next process.
      }
    }
    if (!module.initialized) module.initialize();
    return module;
  }

  #explain(thrown: unknown): string {
    const name =
      this.#lastToken === undefined ? describeSelector(this.#settings.token.partition) : `"${this.#lastToken.label}"`;
    return explain(thrown, name, this.#settings.token.module);
  }

  #setState(
    state: TokenState,
    reason: string,
    { stage, ...more }: Pick<StateEvent, 'failure' | 'paused' | 'wornOut'> & { stage?: TokenStage | undefined } = {},
  ): void {
    this.#state = state;
    this.#reason = reason;
    this.#stage = stage;
    this.#events.state({
      state,
      reason,
      keys: this.#partition?.keys ?? [],
      details: stateDetails({
        modulePath: this.#settings.token.module,
        module: this.#module,
        partition: this.#partition,
        lastToken: this.#lastToken,
        stage,
      }),
      ...more,
      ...(this.#notes.length > 0 ? { notes: this.#notes.splice(0) } : {}),
    });
  }
}

/** What the token is to blame for is worth another try; anything else stays what it is. */
function asOperationError(thrown: unknown, label: string): unknown {
  if (thrown instanceof CkrError || thrown instanceof PartitionError) {
    const ckr = thrown instanceof CkrError ? { ckr: thrown.ckr } : {};
    return new OperationError('token-away', `partition "${label}": ${thrown.message}`, { ...ckr, lost: true });
  }
  return thrown instanceof IvError ? new OperationError('iv-refused', thrown.message) : thrown;
}
