import { request as httpRequest } from 'node:http';
import type { KeyReport } from '../keyring/index.ts';
import type { LogLevel } from '../log/index.ts';
import type { PinRecord } from '../token/index.ts';
import type { CreatedKey, LogLevelReport, PinsCleared, ReloadReport, StatusReport } from './types.ts';

/** The service does not answer: it is down, or stuck, or this user may not ask it. */
export class ServiceUnavailableError extends Error {
  /** 'down': nobody listens. 'stuck': no whole answer in time. 'forbidden': the socket belongs to another user. */
  readonly why: 'down' | 'stuck' | 'forbidden';

  constructor(why: 'down' | 'stuck' | 'forbidden', message: string) {
    super(message);
    this.name = 'ServiceUnavailableError';
    this.why = why;
  }
}

/** The service answered with an error; the message is for the operator. */
export class ControlRefusedError extends Error {
  readonly status: number;
  readonly code: string | undefined;

  constructor(status: number, message: string, code: string | undefined) {
    super(message);
    this.name = 'ControlRefusedError';
    this.status = status;
    this.code = code;
  }
}

/** A verb's patience: nobody waits for a command at a terminal for longer. */
export const CLIENT_DEADLINE_MS = 5_000;
const LARGEST_ANSWER = 16 << 20;

/** The verbs' side of the control socket. Every method rejects with one of the two errors above, after at most 5 s. */
export class ControlClient {
  readonly #socket: string;
  readonly #deadlineMs: number;

  /** @param socket - the configuration's control_socket. */
  constructor(socket: string, deadlineMs = CLIENT_DEADLINE_MS) {
    this.#socket = socket;
    this.#deadlineMs = deadlineMs;
  }

  status(): Promise<StatusReport> {
    return this.#ask('GET', '/v1/status') as Promise<StatusReport>;
  }

  keys(): Promise<readonly KeyReport[]> {
    return this.#ask('GET', '/v1/keys') as Promise<readonly KeyReport[]>;
  }

  createKey(label: string): Promise<CreatedKey> {
    return this.#ask('POST', '/v1/keys/create', { label }) as Promise<CreatedKey>;
  }

  inspectKey(label: string): Promise<KeyReport> {
    return this.#ask('POST', '/v1/keys/inspect', { label }) as Promise<KeyReport>;
  }

  setLogLevel(level: LogLevel, forMs?: number): Promise<LogLevelReport> {
    return this.#ask('POST', '/v1/log-level', { level, for: forMs }) as Promise<LogLevelReport>;
  }

  pins(): Promise<readonly PinRecord[]> {
    return this.#ask('GET', '/v1/pin') as Promise<readonly PinRecord[]>;
  }

  clearPins(serial?: string): Promise<PinsCleared> {
    return this.#ask('POST', '/v1/pin/clear', { serial }) as Promise<PinsCleared>;
  }

  reload(): Promise<ReloadReport> {
    return this.#ask('POST', '/v1/reload') as Promise<ReloadReport>;
  }

  async #ask(method: 'GET' | 'POST', path: string, body?: object): Promise<unknown> {
    const { status, text } = await this.#exchange(method, path, body === undefined ? '' : JSON.stringify(body));
    const value = parsed(text);
    if (status === 200 && value !== undefined) return value;
    const error = (value as { error?: { message?: unknown; code?: unknown } } | undefined)?.error;
    if (typeof error?.message !== 'string') {
      throw new ControlRefusedError(
        status,
        `the service gave an answer that makes no sense (HTTP ${status})`,
        undefined,
      );
    }
    throw new ControlRefusedError(status, error.message, typeof error.code === 'string' ? error.code : undefined);
  }

  #exchange(method: string, path: string, body: string): Promise<{ status: number; text: string }> {
    return new Promise((resolve, reject) => {
      const request = httpRequest({
        socketPath: this.#socket,
        method,
        path,
        agent: false,
        headers: { host: 'localhost', 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      });
      const timer = setTimeout(() => request.destroy(this.#stuck()), this.#deadlineMs);
      const fail = (error: NodeJS.ErrnoException): void => {
        clearTimeout(timer);
        reject(this.#explained(error));
      };
      request.on('error', fail);
      request.on('response', (response) => {
        const chunks: Buffer[] = [];
        let size = 0;
        response.on('data', (chunk: Buffer) => {
          size += chunk.length;
          if (size > LARGEST_ANSWER) request.destroy(new Error(`the answer is larger than ${LARGEST_ANSWER} bytes`));
          else chunks.push(chunk);
        });
        response.on('error', fail);
        response.on('end', () => {
          clearTimeout(timer);
          resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() });
        });
      });
      request.end(body);
    });
  }

  #stuck(): ServiceUnavailableError {
    const seconds = Math.round(this.#deadlineMs / 100) / 10;
    return new ServiceUnavailableError('stuck', `the service did not answer on ${this.#socket} within ${seconds} s`);
  }

  #explained(error: NodeJS.ErrnoException): Error {
    if (error instanceof ServiceUnavailableError) return error;
    const code = error.code ?? '';
    if (['ENOENT', 'ECONNREFUSED', 'ENOTDIR'].includes(code)) {
      return new ServiceUnavailableError('down', `the service is not running (nobody listens on ${this.#socket})`);
    }
    if (['EACCES', 'EPERM'].includes(code)) {
      const mend = 'run the command as the user that runs the service';
      return new ServiceUnavailableError('forbidden', `this user may not open ${this.#socket}: ${mend}`);
    }
    return new ServiceUnavailableError('stuck', `the service broke off on ${this.#socket}: ${error.message}`);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
