import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  credentials,
  status as statusCodes,
  type ServiceError,
} from '@grpc/grpc-js';
import { checkIdentity, type ApiName, type ListenerConfig } from '../config/index.ts';
import { OUR_CLIENT } from './kubernetes.ts';
import { loadServiceDefinitions, type ServiceDefinitions } from './protos.ts';

export interface RoundTripOptions {
  readonly api: ApiName;
  readonly plaintext: Buffer;
  /** For the whole of it, in milliseconds. */
  readonly deadlineMs: number;
}

export interface RoundTrip {
  readonly ciphertext: Buffer;
  /** What Decrypt gave back. */
  readonly plaintext: Buffer;
  /** v2's key_id; v1beta1 has none. */
  readonly keyId: string | undefined;
  readonly encryptMs: number;
  readonly decryptMs: number;
}

export type Step = 'Version' | 'Status' | 'Encrypt' | 'Decrypt';

/** A call of a round trip that failed; `status` is the gRPC status name, `message` for operators. */
export class RoundTripError extends Error {
  override readonly name = 'RoundTripError';
  readonly step: Step;
  readonly status: string;
  /** The message without step and status. */
  readonly details: string;

  constructor(step: Step, status: string, details: string, cause?: unknown) {
    super(`${step}: ${status}: ${details}`, cause === undefined ? undefined : { cause });
    this.step = step;
    this.status = status;
    this.details = details;
  }
}

/**
 * Encrypts and decrypts one value through a listener, as its client would: with TLS as CredHub, which trusts the
 * listener's `ca` alone, checks the certificate against `host`, leaves `version` empty and calls nothing before; without
 * as kube-apiserver, which asks Version (v1beta1) or Status (v2) first and sends v2's key_id back.
 *
 * @throws RoundTripError with the step that failed; Error when the listener's `ca` cannot be read or is not configured.
 */
export async function roundTrip(listener: ListenerConfig, options: RoundTripOptions): Promise<RoundTrip> {
  const { channel, extra } = channelOf(listener);
  const client = new Client(targetOf(listener), channel, {
    'grpc.enable_http_proxy': 0,
    'grpc.primary_user_agent': OUR_CLIENT,
    'grpc.max_receive_message_length': -1,
    'grpc.max_send_message_length': -1,
    ...extra,
  });
  const deadline = Date.now() + options.deadlineMs;
  const definitions = loadServiceDefinitions();
  const call: Caller = (step, request) => unary(client, definitions, options.api, step, request, deadline);
  try {
    return options.api === 'v2'
      ? await v2(call, options.plaintext)
      : await v1beta1(call, options.plaintext, listener.tls !== undefined);
  } finally {
    client.close();
  }
}

type Caller = (step: Step, request: object) => Promise<Readonly<Record<string, unknown>>>;

async function v1beta1(call: Caller, plaintext: Buffer, asCredHub: boolean): Promise<RoundTrip> {
  if (!asCredHub) {
    const { version } = await call('Version', { version: 'v1beta1' });
    if (version !== 'v1beta1') throw wrong('Version', `answers version "${String(version)}" instead of "v1beta1"`);
  }
  const version = asCredHub ? '' : 'v1beta1';
  const sealed = await timed(call('Encrypt', { version, plain: plaintext }));
  const ciphertext = bytes('Encrypt', sealed.answer['cipher']);
  const opened = await timed(call('Decrypt', { version, cipher: ciphertext }));
  return {
    ciphertext,
    plaintext: bytes('Decrypt', opened.answer['plain']),
    keyId: undefined,
    encryptMs: sealed.ms,
    decryptMs: opened.ms,
  };
}

async function v2(call: Caller, plaintext: Buffer): Promise<RoundTrip> {
  const status = await call('Status', {});
  if (status['healthz'] !== 'ok') throw wrong('Status', `healthz says: ${String(status['healthz'])}`);
  const uid = `roundtrip-${process.pid}`;
  const sealed = await timed(call('Encrypt', { plaintext, uid }));
  const { key_id: keyId, annotations } = sealed.answer;
  if (keyId !== status['key_id']) throw wrong('Encrypt', `key_id "${String(keyId)}" is not the one that Status gives`);
  const ciphertext = bytes('Encrypt', sealed.answer['ciphertext']);
  const opened = await timed(call('Decrypt', { ciphertext, uid, key_id: keyId, annotations }));
  return {
    ciphertext,
    plaintext: bytes('Decrypt', opened.answer['plaintext']),
    keyId: String(keyId),
    encryptMs: sealed.ms,
    decryptMs: opened.ms,
  };
}

function unary(
  client: Client,
  definitions: ServiceDefinitions,
  api: ApiName,
  step: Step,
  request: object,
  deadline: number,
): Promise<Readonly<Record<string, unknown>>> {
  const method = definitions[api][step];
  if (method === undefined) throw new Error(`${api} has no method ${step}`);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      method.path,
      (value: object) => method.requestSerialize(value),
      (answer: Buffer) => method.responseDeserialize(answer) as Readonly<Record<string, unknown>>,
      request,
      { deadline },
      (error: ServiceError | null, answer) => {
        if (error === null && answer !== undefined) resolve(answer);
        else reject(failed(step, error));
      },
    );
  });
}

function failed(step: Step, error: ServiceError | null): RoundTripError {
  const code = error === null ? statusCodes.UNKNOWN : error.code;
  const details = (error?.details ?? 'no answer').replace(/ Resolution note: $/, '');
  return new RoundTripError(step, statusCodes[code], details, error ?? undefined);
}

function wrong(step: Step, message: string): RoundTripError {
  return new RoundTripError(step, 'wrong answer', message);
}

function bytes(step: Step, value: unknown): Buffer {
  if (Buffer.isBuffer(value)) return value;
  throw wrong(step, 'the answer holds no bytes');
}

async function timed<T>(work: Promise<T>): Promise<{ answer: T; ms: number }> {
  const started = performance.now();
  const answer = await work;
  return { answer, ms: performance.now() - started };
}

function targetOf({ endpoint }: ListenerConfig): string {
  return endpoint.kind === 'path' ? `unix:${endpoint.path}` : `unix:\0${endpoint.name}`;
}

function channelOf({ name, tls }: ListenerConfig): { channel: ChannelCredentials; extra: ChannelOptions } {
  if (tls === undefined) {
    return { channel: credentials.createInsecure(), extra: { 'grpc.default_authority': 'localhost' } };
  }
  if (tls.caFile === undefined || tls.host === undefined) {
    throw new RoundTripError(
      'Encrypt',
      'not called',
      `listener ${name} has no tls.ca and tls.host: set both to what CredHub has as ca and host`,
    );
  }
  return {
    // As mild as CredHub's client where that is simple: any certificate of the CA file is trusted, its names are read alike.
    channel: credentials.createFromSecureContext(
      createSecureContext({ ca: readFileSync(tls.caFile), allowPartialTrustChain: true }),
      { checkServerIdentity: checkIdentity },
    ),
    extra: { 'grpc.ssl_target_name_override': tls.host, 'grpc.default_authority': tls.host },
  };
}
