import { randomBytes } from 'node:crypto';
import { roundTripApart, RoundTripError, type RoundTrip } from '../../api/index.ts';
import { parseCiphertext } from '../../cipher/index.ts';
import { loadConfig, locateService, type ApiName, type ListenerConfig } from '../../config/index.ts';
import { ControlClient } from '../../control/index.ts';
import { CommandError, EXIT, UsageError, type Invocation } from '../command.ts';
import { paints, plural } from '../format.ts';

/** For one round trip, in milliseconds. */
const DEADLINE_MS = 5_000;
/** For the service's own word on why one failed, in milliseconds. */
const ASK_MS = 2_000;
const LARGEST = 64 << 20;

interface Trouble {
  readonly step?: string;
  readonly status?: string;
  readonly message: string;
  /** Why the service cannot encrypt, where the call did not say. */
  readonly reason?: string;
}

interface Outcome {
  readonly listener: string;
  readonly api: ApiName;
  readonly tls: boolean;
  readonly ok: boolean;
  readonly plaintextBytes: number;
  readonly error?: Trouble;
  readonly ciphertextBytes?: number;
  readonly keyId?: string;
  readonly encryptMs?: number;
  readonly decryptMs?: number;
  readonly ciphertext?: string;
  readonly plaintext?: string;
}

/** Exit status 1 when one of the round trips fails. */
export async function run(invocation: Invocation): Promise<number> {
  const { configFile, json, colour, print, printJson, flag } = invocation;
  const trips = chosen(invocation, loadConfig(configFile).listeners);
  const size = sizeOf(invocation.option('size'));
  const outcomes: Outcome[] = [];
  for (const { listener, api } of trips) {
    const outcome = await explained(configFile, await attempt(listener, api, randomBytes(size), flag('show')));
    outcomes.push(outcome);
    if (!json) print(describe(outcome, colour).join('\n'));
  }
  if (json) printJson(outcomes);
  return outcomes.every(({ ok }) => ok) ? EXIT.ok : EXIT.failure;
}

function chosen({ option }: Invocation, all: readonly ListenerConfig[]) {
  const name = option('listener');
  const api = option('api');
  if (api !== undefined && api !== 'v1beta1' && api !== 'v2') throw new UsageError('--api is v1beta1 or v2');
  const listeners = name === undefined ? all : all.filter((listener) => listener.name === name);
  if (listeners.length === 0) {
    throw new CommandError(`there is no listener "${name ?? ''}", but ${all.map((each) => each.name).join(', ')}`);
  }
  const trips = listeners.flatMap((listener) => {
    return listener.apis.filter((each) => api === undefined || each === api).map((each) => ({ listener, api: each }));
  });
  if (trips.length === 0) throw new CommandError(`${name ?? 'no listener'} does not serve ${api ?? 'any API'}`);
  return trips;
}

function sizeOf(written: string | undefined): number {
  if (written === undefined) return 32;
  const size = /^\d{1,9}$/.test(written) ? Number(written) : LARGEST + 1;
  if (size > LARGEST) throw new UsageError(`--size is a number of bytes from 0 to ${LARGEST}`);
  return size;
}

async function attempt(listener: ListenerConfig, api: ApiName, value: Buffer, show: boolean): Promise<Outcome> {
  const common = { listener: listener.name, api, tls: listener.tls !== undefined, plaintextBytes: value.length };
  try {
    const trip = await roundTripApart(listener, { api, plaintext: value, deadlineMs: DEADLINE_MS });
    const same = trip.plaintext.equals(value);
    return {
      ...common,
      ok: same,
      ...figures(trip),
      ...(same ? {} : { error: { step: 'Decrypt', message: 'Decrypt gave back another value' } }),
      ...(show ? { ciphertext: trip.ciphertext.toString('hex'), plaintext: trip.plaintext.toString('hex') } : {}),
    };
  } catch (error) {
    if (!(error instanceof RoundTripError)) {
      return { ...common, ok: false, error: { message: (error as Error).message } };
    }
    const { step, status, message } = error;
    return { ...common, ok: false, error: { step, status, message } };
  }
}

/**
 * Why, in the words of the service, where the call does not say: on a connection with patience a call waits for the token or
 * a key, and fails by its deadline.
 */
async function explained(configFile: string, outcome: Outcome): Promise<Outcome> {
  const { error } = outcome;
  if (error === undefined || error.message.includes('[KMS-')) return outcome;
  try {
    const { health } = await new ControlClient(locateService(configFile).controlSocket, ASK_MS).status();
    return health.ok ? outcome : { ...outcome, error: { ...error, reason: health.reason } };
  } catch {
    return outcome;
  }
}

function figures({ ciphertext, keyId, encryptMs, decryptMs }: RoundTrip) {
  return {
    ciphertextBytes: ciphertext.length,
    keyId: keyId ?? parseCiphertext(ciphertext).keyId,
    encryptMs: Math.round(encryptMs * 10) / 10,
    decryptMs: Math.round(decryptMs * 10) / 10,
  };
}

function describe(outcome: Outcome, colour: boolean): string[] {
  const paint = paints(colour);
  const head = `${outcome.listener} (${outcome.tls ? 'TLS' : 'no TLS'}, ${outcome.api})`;
  const { keyId, ciphertextBytes, encryptMs, decryptMs, error } = outcome;
  if (error !== undefined) {
    const mend = mendOf(error);
    return [`${head}: ${paint.bad('failed')}`, `  ${error.message}`, ...(mend === undefined ? [] : [`  -> ${mend}`])];
  }
  const lines = [
    `${head}: ${paint.good('ok')}`,
    `  ${plural(outcome.plaintextBytes, 'byte')} -> ${plural(ciphertextBytes ?? 0, 'byte')} in ${encryptMs} ms, ` +
      `back in ${decryptMs} ms, key ${keyId}`,
  ];
  if (outcome.ciphertext !== undefined) lines.push(`  ciphertext ${outcome.ciphertext}`);
  if (outcome.plaintext !== undefined) lines.push(`  value back ${outcome.plaintext}`);
  return lines;
}

/** What gRPC's own failures, which carry no code and no mend, mean for an operator. */
function mendOf({ message, reason, status }: Trouble): string | undefined {
  if (reason !== undefined) return `${status === 'DEADLINE_EXCEEDED' ? 'it waits for' : 'the service says'}: ${reason}`;
  if (message.includes('[KMS-')) return undefined;
  if (status === 'client crashed') {
    return 'run kms-plugin reload: what is served is not the certificate of its file; kms-plugin doctor says who listens there';
  }
  if (/ENOENT|ECONNREFUSED/.test(message)) {
    return 'nobody listens there: start the service; if it ended, its log and kms-plugin doctor say why';
  }
  if (/EACCES|EPERM/.test(message)) return 'run the command as the user that runs the service';
  if (message.includes('DEADLINE_EXCEEDED')) {
    return `no answer within ${DEADLINE_MS / 1000} s: the HSM or its client is slow; kms-plugin doctor looks at each part`;
  }
  return undefined;
}
