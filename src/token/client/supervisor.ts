import { awakeMs, CallEnd, type CallSignal, reasonOf } from '../../call/index.ts';
import type { LimitsConfig, TokenConfig } from '../../config/index.ts';
import type { Log } from '../../log/index.ts';
import type { KeyQuery, TokenKey, TokenReport } from '../types.ts';
import { FrameType, type Frame } from '../wire/frame.ts';
import {
  decodeJson,
  encodeJson,
  type AliveEvent,
  type FailedAnswer,
  type IvEvent,
  type OpenRequest,
  type StateEvent,
} from '../wire/messages.ts';
import type { AvailabilityGate } from './availability.ts';
import { Crashes } from './crashes.ts';
import { HangWatch } from './hang-watch.ts';
import { PendingRequests, type Outcome } from './pending.ts';
import { ProcessHandle } from './process-handle.ts';
import { TokenRecord } from './token-record.ts';

/** How often the watch looks, in milliseconds. */
const WATCH_INTERVAL_MS = 500;
/**
 * Attempts to reach the token before a fresh process takes over: few at first, since some modules notice a token's return
 * only in a new process; then more with each process, up to the last, since a process costs more than an attempt.
 */
const ATTEMPTS: readonly number[] = [3, 4, 8, 16, 40];
/** Requests beyond those that the API lets in: the plugin's own, and those whose callers have gone. */
const SPARE_REQUESTS = 64;
const CLOSE_MS = 2_000;
const SPAWN_AGAIN_MS = 1_000;

/** What a partition's client needs to know. */
export interface TokenOptions {
  readonly config: TokenConfig;
  readonly stateDir: string;
  /** The configuration's directory: the token process's working directory. */
  readonly directory: string;
  readonly limits: LimitsConfig;
  readonly log: Log;
  /** Shortest time in milliseconds after which a token process that does not answer is killed; 30 s by default. */
  readonly killAfterMs?: number;
}

/** Keeps one token process alive, kills it when it hangs, starts its successor, and carries frames to and fro. */
export class Supervisor {
  readonly #options: TokenOptions;
  #limits: LimitsConfig;
  readonly #gate: AvailabilityGate;
  readonly #record: TokenRecord;
  readonly #pending = new PendingRequests();
  #handle: ProcessHandle | undefined;
  #processState: StateEvent['state'] = 'starting';
  #paused = false;
  /** It is ended to make room for another: no crash. */
  #replacing = false;
  /** The token was lost or not reached, or its process died, since it was ready last: no successor trusts it at once. */
  #lost = false;
  /** Processes in a row that did not reach the token. */
  #fruitless = 0;
  readonly #crashes = new Crashes();
  /** Processes that ended by themselves or were killed because they hung; and those ended on purpose, to make room. */
  #restarts = 0;
  #replaced = 0;
  #lastRestart: Date | undefined;
  readonly #hangs: HangWatch;
  #probing = false;
  #closing = false;
  #watch: NodeJS.Timeout | undefined;
  #respawn: NodeJS.Timeout | undefined;
  queries: readonly KeyQuery[] = [];
  keys: readonly TokenKey[] = [];
  /** Told of IVs of ours that were used, by key id. */
  onIvs: (keyId: string, ivs: number) => void = () => undefined;

  constructor(options: TokenOptions, gate: AvailabilityGate) {
    this.#options = options;
    this.#limits = options.limits;
    this.#gate = gate;
    this.#record = new TokenRecord(options.config.module);
    this.#hangs = new HangWatch(options.config.vendorTimeoutMs, options.killAfterMs);
  }

  start(queries: readonly KeyQuery[]): void {
    this.queries = queries;
    this.#watch = setInterval(() => this.#look(), WATCH_INTERVAL_MS);
    this.#watch.unref();
    this.#spawn();
  }

  /**
   * Sends one request to the process of now. Rejects with the signal's reason as soon as that is aborted; the token process
   * goes on, and its answer is zeroed when it comes.
   */
  send(type: FrameType, parts: readonly Buffer[], signal: CallSignal): Promise<Outcome> {
    if (signal.aborted) return Promise.reject(reasonOf(signal));
    const handle = this.#handle;
    if (handle === undefined || handle.ended)
      return Promise.resolve({ kind: 'lost', why: 'the token process is starting', unsent: true });
    if (this.#pending.size >= this.#limits.inFlight + SPARE_REQUESTS) {
      return Promise.resolve({ kind: 'lost', why: 'the HSM has not answered earlier requests yet', unsent: true });
    }
    const { id, outcome } = this.#pending.add(signal);
    handle.channel.send(type, id, parts);
    return outcome;
  }

  configure(limits: LimitsConfig): void {
    this.#limits = limits;
  }

  reconnect(): void {
    if (this.#gate.state === 'refused' || this.#paused) this.#replace();
  }

  async close(): Promise<void> {
    this.#closing = true;
    clearInterval(this.#watch);
    clearTimeout(this.#respawn);
    await this.#handle?.close(CLOSE_MS);
  }

  report(): TokenReport {
    return this.#record.report(this.#gate, {
      pid: this.#handle?.pid,
      restarts: this.#restarts,
      replaced: this.#replaced,
      ...(this.#lastRestart === undefined ? {} : { lastRestart: this.#lastRestart.toISOString() }),
      started: this.#handle?.started.toISOString(),
    });
  }

  #spawn(): void {
    if (this.#closing) return;
    const { config, stateDir, directory, log } = this.#options;
    this.#hangs.begin(awakeMs());
    this.#replacing = false;
    this.#paused = false;
    this.#processState = 'starting';
    let handle: ProcessHandle;
    try {
      handle = new ProcessHandle(config, directory, log, {
        frame: (frame) => {
          if (handle === this.#handle) this.#receive(frame);
        },
        ended: (how) => this.#ended(handle, how),
      });
    } catch (error) {
      // Out of file descriptors or processes: no reason to take the plugin down.
      const reason = (error as Error).message;
      // A kind of its own: the log would hold it back behind the end of the process before.
      log.error('the token process cannot be started', { code: 'KMS-2001', kind: 'not-started', reason });
      if (this.#gate.state !== 'away')
        this.#gate.set('starting', `the token process cannot be started (${reason})`, 'token process');
      this.#respawn = setTimeout(() => this.#spawn(), SPAWN_AGAIN_MS);
      return;
    }
    this.#handle = handle;
    const attempts = ATTEMPTS[Math.min(this.#fruitless, ATTEMPTS.length - 1)] ?? 1;
    const open: OpenRequest = { token: config, stateDir, queries: this.queries, attempts, afterLoss: this.#lost };
    handle.channel.send(FrameType.open, 0, encodeJson(open));
    log[this.#said]('token process started', { pid: handle.pid ?? 0, module: config.module });
  }

  /** Once in an absence is enough to know that processes are replaced: it goes on without end. */
  get #said(): 'info' | 'debug' {
    return this.#fruitless <= 1 ? 'info' : 'debug';
  }

  #replace(): void {
    this.#replacing = true;
    this.#handle?.kill();
  }

  #receive(frame: Frame): void {
    const now = performance.now();
    this.#hangs.heard(awakeMs());
    if (frame.type === FrameType.event) {
      const event = decodeJson(frame.payload) as StateEvent | AliveEvent | IvEvent;
      if ('alive' in event) this.#alive(event);
      else if ('ivs' in event) for (const [keyId, ivs] of Object.entries(event.ivs)) this.onIvs(keyId, ivs);
      else this.#stateEvent(event);
      return;
    }
    if (frame.type === FrameType.ok) {
      this.#record.good(now);
      this.#answered();
      if (!this.#pending.settle(frame.id, { kind: 'ok', payload: frame.payload })) frame.payload.fill(0);
    } else if (frame.type === FrameType.failed) {
      const answer = decodeJson(frame.payload) as FailedAnswer;
      if (answer.lost) this.#record.failed(answer.message);
      this.#answered();
      this.#pending.settle(frame.id, { kind: 'failed', answer });
    }
  }

  #alive(event: AliveEvent): void {
    const news = this.#record.alive(event);
    if (news !== undefined) this.#options.log.warn(news, { kind: 'pin-file' });
  }

  #stateEvent(event: StateEvent): void {
    const before = this.#gate.state;
    const { stage, ...details } = event.details;
    this.#record.learn(details);
    this.#processState = event.state;
    this.#paused = event.paused === true;
    for (const note of event.notes ?? []) this.#options.log.warn(note);
    if (event.state === 'ready') {
      this.keys = event.keys;
      this.#record.good(performance.now());
      this.#fruitless = 0;
      this.#lost = false;
    } else if (event.state !== 'starting') {
      this.#record.failed(event.reason);
      if (event.state === 'away' && !this.#paused) this.#lost = true;
    }
    // A successor that begins to connect says nothing of why the token is away: the reason of before stands.
    if (event.state !== 'starting' || before !== 'away')
      this.#gate.set(event.state, event.reason, stage, event.failure);
    if (before !== this.#gate.state) this.#logState();
    // The keys may be others than before, though the state is the same.
    else if (event.state === 'ready') this.#gate.announce();
    if (event.wornOut === true) {
      this.#fruitless++;
      this.#replace();
    }
  }

  #logState(): void {
    const { log } = this.#options;
    const { state, reason } = this.#gate;
    const fields = this.#record.names;
    if (state === 'ready') log.info('token ready', { ...fields, keys: this.keys.length });
    else if (state === 'away') log.error(`token away: ${reason}`, { code: 'KMS-2001', ...fields });
    else if (state === 'refused') log.error(`login refused: ${reason}`, { code: 'KMS-2003', ...fields });
  }

  /** Something came back: a token that seemed to hang does not. */
  #answered(): void {
    if (this.#hangs.answered(awakeMs()) && this.#processState === 'ready') {
      this.#gate.set('ready', 'ok', undefined);
      this.#logState();
    }
  }

  #ended(handle: ProcessHandle, how: string): void {
    if (handle !== this.#handle) return;
    this.#handle = undefined;
    const { log } = this.#options;
    if (this.#closing) {
      this.#pending.settleAll({ kind: 'lost', why: 'the plugin is shutting down' });
      return;
    }
    const now = performance.now();
    const replaced = this.#replacing;
    if (replaced) {
      this.#replaced++;
    } else {
      this.#restarts++;
      this.#lastRestart = new Date();
    }
    if (!replaced) this.#crashes.add(now);
    const pause = this.#crashes.pause(now);
    if (replaced) {
      log[this.#said]('the token process made room for a fresh one', { how });
    } else {
      this.#lost = true;
      log.error('the token process ended', {
        code: 'KMS-2001',
        how,
        pending: this.#pending.size,
        pauseMs: Math.round(pause.ms),
      });
      this.#record.failed(`the token process ended: ${how}`);
      if (pause.away)
        this.#gate.set('away', `the PKCS#11 module keeps ending the token process (${how})`, 'token process');
      else if (this.#gate.state !== 'away')
        this.#gate.set('starting', `the token process ended (${how}); its successor starts`, 'token process');
    }
    this.#pending.settleAll(replaced ? { kind: 'lost', why: how } : { kind: 'died', how });
    this.#respawn = setTimeout(() => this.#spawn(), pause.ms);
  }

  #look(): void {
    const handle = this.#handle;
    if (handle === undefined || this.#replacing) return;
    const { state, sinceMs } = this.#gate;
    const finding = this.#hangs.look({
      now: awakeMs(),
      oldestSentAt: this.#pending.oldestSentAt,
      callDeadlineMs: this.#limits.callDeadlineMs,
      readyForMs: state === 'ready' ? sinceMs : undefined,
    });
    if (finding.kind === 'hangs') this.#hang(finding.ms);
    if (finding.kind !== 'dead') return;
    this.#options.log.error('the token process hangs in the PKCS#11 module and is killed', {
      code: 'KMS-2001',
      waitedMs: Math.round(finding.ms),
      pending: this.#pending.size,
    });
    handle.kill();
  }

  /** No answer to anything for long: calls fail at once until one comes; a probe finds out when nobody else asks. */
  #hang(waitedMs: number): void {
    if (this.#gate.state === 'ready') {
      this.#gate.set(
        'away',
        `the HSM has not answered for ${Math.round(waitedMs / 1000)} s; the network, the HSM or its client library hangs`,
        'token process',
      );
      this.#record.failed(this.#gate.reason);
      this.#logState();
    }
    if (this.#probing) return;
    this.#probing = true;
    void this.send(FrameType.probe, [], new CallEnd()).then(() => {
      this.#probing = false;
    });
  }
}
