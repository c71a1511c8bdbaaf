import { awakeMs, type Call } from '../../call/index.ts';
import type { LimitsConfig } from '../../config/index.ts';
import { KmsError } from '../../errors/index.ts';
import type { Log } from '../../log/index.ts';
import type { KeyQuery, Token, TokenKey, TokenReport, TokenScheme, TokenState } from '../types.ts';
import { toMonotonic } from '../wire/clock.ts';
import { FrameType } from '../wire/frame.ts';
import { decodeJson, encodeCryptoRequest, encodeJson, type KeysAnswer, type KeysRequest } from '../wire/messages.ts';
import { AvailabilityGate } from './availability.ts';
import type { Outcome } from './pending.ts';
import { Supervisor, type TokenOptions } from './supervisor.ts';
import { Suspects } from './suspects.ts';

/** First and longest pause before a request that was lost is sent again, in milliseconds. */
const RESEND_MIN_MS = 10;
const RESEND_MAX_MS = 200;

type CryptoType = typeof FrameType.encrypt | typeof FrameType.decrypt | typeof FrameType.openSurely;

interface Request {
  readonly type: CryptoType | typeof FrameType.probe | typeof FrameType.keys;
  readonly parts: readonly Buffer[];
  /** For the log when it crashes the module; nothing secret. */
  readonly keyId?: string;
  readonly scheme?: TokenScheme;
  readonly bytes?: number;
}

/** The plugin process's side of a partition: sends requests, and sends them again where the token was to blame. */
export class TokenClient implements Token {
  readonly #log: Log;
  #limits: LimitsConfig;
  readonly #gate: AvailabilityGate;
  readonly #supervisor: Supervisor;
  readonly #suspects = new Suspects();

  constructor(options: TokenOptions) {
    this.#log = options.log;
    this.#limits = options.limits;
    this.#gate = new AvailabilityGate(options.limits);
    this.#supervisor = new Supervisor(options, this.#gate);
  }

  start(queries: readonly KeyQuery[]): void {
    this.#supervisor.start(queries);
  }

  keys(): readonly TokenKey[] {
    return this.#supervisor.keys;
  }

  ready(call: Call): Promise<void> {
    return this.#gate.ready(call, undefined);
  }

  seal(keyId: string, scheme: TokenScheme, associatedData: Buffer, plaintext: Buffer, call: Call): Promise<Buffer> {
    return this.#crypto(FrameType.encrypt, keyId, scheme, associatedData, plaintext, call);
  }

  open(keyId: string, scheme: TokenScheme, associatedData: Buffer, body: Buffer, call: Call): Promise<Buffer> {
    return this.#crypto(FrameType.decrypt, keyId, scheme, associatedData, body, call);
  }

  openSurely(keyId: string, scheme: TokenScheme, associatedData: Buffer, body: Buffer, call: Call): Promise<Buffer> {
    return this.#crypto(FrameType.openSurely, keyId, scheme, associatedData, body, call);
  }

  onIvs(listener: (keyId: string, ivs: number) => void): void {
    this.#supervisor.onIvs = listener;
  }

  async find(queries: readonly KeyQuery[], call: Call): Promise<readonly TokenKey[]> {
    return this.#keys({ queries }, call);
  }

  /** Sent once: where no answer comes, a key may have been made. */
  async create(query: KeyQuery, call: Call): Promise<void> {
    await this.#gate.ready(call, undefined);
    const parts = encodeJson({ queries: this.#supervisor.queries, create: query } satisfies KeysRequest);
    const outcome = await this.#send({ type: FrameType.keys, parts }, call);
    switch (outcome.kind) {
      case 'ok':
        return;
      case 'failed': {
        const { kind, message, ckr, lost } = outcome.answer;
        // Lost before C_GenerateKey: what that answers is no loss.
        throw new KmsError(kind, message, { ckr, unsent: lost });
      }
      case 'lost':
        throw new KmsError('token-away', outcome.why, { unsent: outcome.unsent === true });
      case 'died':
        throw new KmsError('token-away', `the token process ended while a key was made (${outcome.how})`);
    }
  }

  async probe(call: Call): Promise<void> {
    await this.#request({ type: FrameType.probe, parts: [] }, call);
  }

  condition(): { readonly state: TokenState; readonly reason: string } {
    return this.#gate;
  }

  report(): TokenReport {
    return this.#supervisor.report();
  }

  configure(limits: LimitsConfig): void {
    this.#limits = limits;
    this.#gate.configure(limits);
    this.#supervisor.configure(limits);
  }

  onChange(listener: () => void): () => void {
    return this.#gate.onChange(listener);
  }

  reconnect(): void {
    this.#supervisor.reconnect();
  }

  async close(): Promise<void> {
    this.#gate.close();
    await this.#supervisor.close();
  }

  async #keys(request: KeysRequest, call: Call): Promise<readonly TokenKey[]> {
    this.#supervisor.queries = request.queries;
    const payload = await this.#request({ type: FrameType.keys, parts: encodeJson(request) }, call);
    const { keys } = decodeJson(payload) as KeysAnswer;
    this.#supervisor.keys = keys;
    return keys;
  }

  #crypto(
    type: CryptoType,
    keyId: string,
    scheme: TokenScheme,
    associatedData: Buffer,
    data: Buffer,
    call: Call,
  ): Promise<Buffer> {
    const expiresAt = toMonotonic(call.deadline);
    const parts = encodeCryptoRequest({ keyId, scheme, associatedData, data, expiresAt });
    return this.#request({ type, parts, keyId, scheme, bytes: data.length }, call);
  }

  async #request(request: Request, call: Call): Promise<Buffer> {
    let firstFailure: number | undefined;
    let crashes = 0;
    let pause = RESEND_MIN_MS;
    for (;;) {
      if (!this.#gate.isOpen) await this.#gate.ready(call, firstFailure);
      if (crashes === 0 && this.#suspects.any) await this.#suspects.clear(call);
      const outcome = crashes === 0 ? await this.#send(request, call) : await this.#sendAlone(request, call);
      switch (outcome.kind) {
        case 'ok':
          return outcome.payload;
        case 'died':
          crashes++;
          if (crashes >= 2) this.#poisonous(request, outcome.how);
          break;
        case 'failed':
        case 'lost': {
          if (outcome.kind === 'failed' && !outcome.answer.lost) {
            const { kind, message, ckr } = outcome.answer;
            throw new KmsError(kind, message, ckr === undefined ? {} : { ckr });
          }
          firstFailure ??= awakeMs();
          const message = outcome.kind === 'failed' ? outcome.answer.message : outcome.why;
          if (awakeMs() >= firstFailure + this.#limits.hideMs) {
            const ckr = outcome.kind === 'failed' ? outcome.answer.ckr : undefined;
            throw new KmsError('token-away', `${message}; retries did not help`, ckr === undefined ? {} : { ckr });
          }
          await this.#gate.changed(call.signal, awakeMs() + pause * (0.5 + Math.random()));
          pause = Math.min(RESEND_MAX_MS, pause * 2);
          break;
        }
      }
    }
  }

  #send(request: Request, call: Call): Promise<Outcome> {
    if (request.type === FrameType.encrypt && request.keyId !== undefined) this.#countIv(request.keyId);
    return this.#supervisor.send(request.type, request.parts, call.signal);
  }

  /** Each sending takes an IV, also one that nobody waits for any more or that ends with its process. */
  #countIv(keyId: string): void {
    const key = this.#supervisor.keys.find(({ ids }) => ids.some(({ id }) => id === keyId));
    if (key?.ivBy === 'caller') this.#supervisor.onIvs(keyId, 1);
  }

  #sendAlone(request: Request, call: Call): Promise<Outcome> {
    return this.#suspects.alone(async () => {
      await this.#gate.ready(call, undefined);
      return this.#send(request, call);
    });
  }

  #poisonous({ type, keyId, scheme, bytes }: Request, how: string): never {
    const facts = { operation: OPERATIONS[type], keyId, scheme, bytes };
    this.#log.error('a request was in flight in two crashes of the PKCS#11 module; it is not sent again', {
      code: 'KMS-2008',
      how,
      ...facts,
    });
    throw new KmsError(
      'poisonous-request',
      `the PKCS#11 module ended twice under this request (${how}); it is not tried again. Report it to the HSM's vendor`,
      facts,
    );
  }
}

const OPERATIONS: Readonly<Record<Request['type'], string>> = {
  [FrameType.encrypt]: 'encrypt',
  [FrameType.decrypt]: 'decrypt',
  [FrameType.openSurely]: 'decrypt',
  [FrameType.probe]: 'probe',
  [FrameType.keys]: 'keys',
};
