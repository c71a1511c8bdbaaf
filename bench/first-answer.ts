import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { credentials, loadPackageDefinition, type Client, type ServiceClientConstructor } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { HOST } from './stage.ts';
import type { Subject } from './subject.ts';

const PROTO = path.join(import.meta.dirname, '../src/api/proto/v1beta1.proto');
/** How often the socket is looked at, in milliseconds. */
const LOOK_MS = 2;
const PATIENCE_MS = 20_000;

const definition = loadPackageDefinition(loadSync(PROTO, { keepCase: true, defaults: true }));
const { KeyManagementService } = definition['v1beta1'] as unknown as { KeyManagementService: ServiceClientConstructor };

/** Waits for the first answer to an Encrypt over TLS. @returns `performance.now()` at its arrival. */
export async function firstAnswer(subject: Subject, ca: string): Promise<number> {
  const until = performance.now() + PATIENCE_MS;
  while (performance.now() < until) {
    if (await accepts(subject.tls)) {
      const client = dial(subject, ca);
      try {
        await invoke(client, 'Encrypt', { plain: Buffer.alloc(32) });
        return performance.now();
      } catch {
        // It listened and was not ready, or was about to be replaced.
      } finally {
        client.close();
      }
    }
    await sleep(LOOK_MS);
  }
  throw new Error(`${subject.name} does not answer`);
}

function accepts(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(socket);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });
}

type Unary = (request: object, options: object, done: (error: Error | null, answer: Answer) => void) => void;
interface Answer {
  readonly cipher?: Buffer;
  readonly plain?: Buffer;
}

/** A connection of its own to a subject's TLS socket. */
export function dial(subject: Subject, ca: string): Client {
  return new KeyManagementService(`unix:${subject.tls}`, credentials.createSsl(readFileSync(ca)), {
    'grpc.ssl_target_name_override': HOST,
    'grpc.default_authority': HOST,
    'grpc.use_local_subchannel_pool': 1,
  });
}

/** One call. Throws gRPC's ServiceError. */
export function invoke(client: Client, method: 'Encrypt' | 'Decrypt', request: object): Promise<Answer> {
  const call = (client as unknown as Record<string, Unary>)[method];
  return new Promise((resolve, reject) => {
    call?.bind(client)(request, { deadline: Date.now() + PATIENCE_MS }, (error, answer) => {
      if (error === null) resolve(answer);
      else reject(error);
    });
  });
}
