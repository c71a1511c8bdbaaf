/**
 * Looks at TLS servers from a process of its own. Node ends by SIGSEGV when a client reads certain certificates, e.g. with a
 * key on the curve brainpoolP256r1 (TLSSocket.getPeerCertificate, which it calls itself): whatever a server shows, the
 * commands that look at it must end with a line that says so.
 */
import { fork } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import type { ListenerConfig } from '../../config/index.ts';
import { roundTrip, RoundTripError, type RoundTrip, type RoundTripOptions } from '../client.ts';
import { NO_HANDSHAKE, type Handshake, type HandshakeOptions } from '../handshake.ts';
import type { Answer, Task } from './task.ts';

/** Beyond the time of its task: for its start on a slow host. Bounds only what somebody has stopped (SIGSTOP). */
const START_MS = 15_000;
/** As the job starts the plugin's own commands. */
const NODE_FLAGS = ['--disable-proto=throw', '--no-addons'];
/** For the look at a certificate that has ended a process, in milliseconds. */
const NAME_MS = 1_000;

/** The client process's program: in the bundle beside this one; when this runs from source, the bundle's built from it. */
function program(): string {
  const beside = path.join(import.meta.dirname, 'client-process.cjs');
  return existsSync(beside) ? beside : path.join(import.meta.dirname, '../../../dist/client-process.cjs');
}

/** The process ended without an answer; the message says how, e.g. `SIGSEGV`. */
class CrashedError extends Error {
  override readonly name = 'CrashedError';
}

function apart(task: Task, withinMs: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const child = fork(program(), {
      execArgv: NODE_FLAGS,
      env: { PATH: process.env['PATH'] },
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      serialization: 'advanced',
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), withinMs + START_MS);
    child.once('message', (answer: Answer) => {
      resolve(answer);
      child.disconnect();
    });
    child.once('error', (error) => reject(new Error(`no process could be started: ${error.message}`)));
    child.once('exit', (status, signal) => {
      clearTimeout(timer);
      reject(new CrashedError(signal ?? `exit status ${status ?? '?'}`));
    });
    // One that has ended before it was asked has said so by its exit.
    child.send(task, () => undefined);
  });
}

/**
 * roundTrip() in a process of its own where a certificate is read, so that no certificate ends this one.
 *
 * @throws as roundTrip(); RoundTripError with the status 'client crashed' when that process ended.
 */
export async function roundTripApart(listener: ListenerConfig, options: RoundTripOptions): Promise<RoundTrip> {
  if (listener.tls === undefined) return roundTrip(listener, options);
  const answer = await apart({ kind: 'round trip', listener, options }, options.deadlineMs).catch(
    async (error: unknown) => {
      if (!(error instanceof CrashedError)) throw error;
      const socketPath = addressOf(listener.endpoint);
      const name = await nameOf({ socketPath, host: listener.tls?.host ?? '' });
      throw new RoundTripError('Encrypt', 'client crashed', readsBadly(name, socketPath, error));
    },
  );
  if (answer.kind === 'round trip') return answer.trip;
  if (answer.kind === 'failed') throw new RoundTripError(answer.step, answer.status, answer.details);
  throw new Error(answer.kind === 'error' ? answer.message : 'the client process gave another answer');
}

/** shakeHands() in a process of its own, so that no certificate ends this one. */
export async function shakeHandsApart(options: HandshakeOptions): Promise<Handshake> {
  try {
    const answer = await apart({ kind: 'handshake', options }, options.withinMs);
    if (answer.kind === 'handshake') return answer.handshake;
    return { ...NO_HANDSHAKE, broken: answer.kind === 'error' ? answer.message : answer.kind };
  } catch (error) {
    if (!(error instanceof CrashedError)) return { ...NO_HANDSHAKE, broken: (error as Error).message };
    const name = await nameOf(options);
    return { ...NO_HANDSHAKE, crashed: readsBadly(name, options.socketPath, error) };
  }
}

/** What kind of certificate is served, by a look that leaves out what ends the process. */
async function nameOf({
  socketPath,
  host,
}: Pick<HandshakeOptions, 'socketPath' | 'host'>): Promise<string | undefined> {
  const options = { socketPath, host, withinMs: NAME_MS };
  const answer = await apart({ kind: 'handshake', options }, NAME_MS).catch(() => undefined);
  return answer?.kind === 'handshake' ? answer.handshake.certificate?.name : undefined;
}

const readsBadly = (name: string | undefined, socketPath: string, { message }: Error): string =>
  `the process that read the certificate${name === undefined ? '' : ` (${name})`} of ${socketPath.replace('\0', '@')} ended (${message})`;

const addressOf = (endpoint: ListenerConfig['endpoint']): string =>
  endpoint.kind === 'path' ? endpoint.path : `\0${endpoint.name}`;
