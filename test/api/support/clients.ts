import {
  type Client,
  credentials,
  makeClientConstructor,
  type Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { loadServiceDefinitions } from '../../../src/api/protos.ts';
import { HOST } from './certificates.ts';

const definitions = loadServiceDefinitions();

export interface Answer<Response> {
  readonly error: ServiceError | undefined;
  readonly response: Response | undefined;
}

export interface CallOptions {
  readonly deadlineMs?: number;
  readonly metadata?: Metadata;
}

type Method = (
  request: object,
  options: { deadline?: number },
  callback: (error: ServiceError | null, response?: unknown) => void,
) => { cancel(): void };

/** One client on one connection of its own. */
export class KmsClient {
  readonly v1: Client & Record<'Version' | 'Encrypt' | 'Decrypt', Method>;
  readonly v2: Client & Record<'Status' | 'Encrypt' | 'Decrypt', Method>;
  readonly health: Client & Record<'Check' | 'List', Method>;

  /** @param address of the socket: a path or '\0name'. */
  constructor(address: string, ca?: Buffer) {
    const creds = ca === undefined ? credentials.createInsecure() : credentials.createSsl(ca);
    const options = {
      'grpc.default_authority': HOST,
      'grpc.ssl_target_name_override': HOST,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.max_receive_message_length': -1,
      'grpc.max_send_message_length': -1,
      'grpc.initial_reconnect_backoff_ms': 50,
    };
    const target = `unix:${address}`;
    const V1 = makeClientConstructor(definitions.v1beta1, 'v1');
    const V2 = makeClientConstructor(definitions.v2, 'v2');
    const Health = makeClientConstructor(definitions.health, 'health');
    this.v1 = new V1(target, creds, options) as unknown as KmsClient['v1'];
    const shared = { ...options, channelOverride: this.v1.getChannel() };
    this.v2 = new V2(target, creds, shared) as unknown as KmsClient['v2'];
    this.health = new Health(target, creds, shared) as unknown as KmsClient['health'];
  }

  call<Response>(method: Method, of: Client, request: object, options: CallOptions = {}): Promise<Answer<Response>> {
    return new Promise((resolve) => {
      const deadline = options.deadlineMs === undefined ? {} : { deadline: Date.now() + options.deadlineMs };
      method.call(of, request, deadline, (error, response) =>
        resolve({ error: error ?? undefined, response: response as Response | undefined }),
      );
    });
  }

  encrypt(plain: Buffer, options?: CallOptions): Promise<Answer<{ cipher: Buffer }>> {
    return this.call(this.v1.Encrypt, this.v1, { plain }, options);
  }

  decrypt(cipher: Buffer, options?: CallOptions): Promise<Answer<{ plain: Buffer }>> {
    return this.call(this.v1.Decrypt, this.v1, { cipher }, options);
  }

  version(version = ''): Promise<Answer<{ version: string; runtime_name: string; runtime_version: string }>> {
    return this.call(this.v1.Version, this.v1, { version });
  }

  status(): Promise<Answer<{ version: string; healthz: string; key_id: string }>> {
    return this.call(this.v2.Status, this.v2, {});
  }

  check(service: string): Promise<Answer<{ status: string }>> {
    return this.call(this.health.Check, this.health, { service });
  }

  close(): void {
    this.v1.close();
  }
}

/** The status name of an answer, 'OK' for a good one. */
export function statusOf(answer: Answer<unknown>): string {
  return answer.error === undefined ? 'OK' : status[answer.error.code];
}
