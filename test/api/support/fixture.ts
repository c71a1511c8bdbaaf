import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { type ApiServer, createApiServer, type FinishedCall } from '../../../src/api/index.ts';
import type { LimitsConfig, ListenerConfig } from '../../../src/config/types.ts';
import { KmsClient } from './clients.ts';
import { FakeKeyring } from './keyring.ts';
import { KeptLog } from './log.ts';

export const LIMITS: LimitsConfig = {
  callDeadlineMs: 10_000,
  hideMs: 2_000,
  inFlight: 64,
  queued: 256,
  connections: 64,
  valueBytes: 1024 * 1024,
  messageBytes: 4 * 1024 * 1024,
  shutdownMs: 10_000,
};

export interface Fixture {
  readonly directory: string;
  readonly path: string;
  readonly keyring: FakeKeyring;
  readonly log: KeptLog;
  readonly server: ApiServer;
  readonly listener: ListenerConfig;
  readonly limits: LimitsConfig;
  readonly finished: FinishedCall[];
  readonly client: (ca?: Buffer) => KmsClient;
}

export function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'kms-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function listenerAt(socketPath: string, changes: Partial<ListenerConfig> = {}): ListenerConfig {
  return {
    name: 'test',
    endpoint: { kind: 'path', path: socketPath },
    apis: ['v1beta1', 'v2'],
    mode: 0o600,
    patienceMs: 0,
    allowUnprotected: false,
    ...changes,
  };
}

/** A server on one listener, with everything around it, and its end after the test. */
export async function serve(
  t: TestContext,
  options: {
    listener?: Partial<ListenerConfig>;
    limits?: Partial<LimitsConfig>;
    keyring?: FakeKeyring;
    directory?: string;
  } = {},
): Promise<Fixture> {
  const directory = options.directory ?? temporaryDirectory(t);
  const socketPath = path.join(directory, 'kms.sock');
  const listener = listenerAt(socketPath, options.listener);
  const limits = { ...LIMITS, ...options.limits };
  const keyring = options.keyring ?? new FakeKeyring();
  const log = new KeptLog();
  const finished: FinishedCall[] = [];
  const observer = { finished: (call: FinishedCall) => void finished.push(call) };
  const server = createApiServer({ listeners: [listener], limits, keyring, log, version: '1.2.3', observer });
  await server.open();
  const clients: KmsClient[] = [];
  t.after(async () => {
    for (const client of clients) client.close();
    await server.shutdown(2_000);
  });
  const address = listener.endpoint.kind === 'path' ? listener.endpoint.path : `\0${listener.endpoint.name}`;
  const client = (ca?: Buffer): KmsClient => {
    const made = new KmsClient(address, ca);
    clients.push(made);
    return made;
  };
  return { directory, path: socketPath, keyring, log, server, listener, limits, finished, client };
}

/** Waits until `condition` holds; the test runner's own limit ends a wait in vain. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

export function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
