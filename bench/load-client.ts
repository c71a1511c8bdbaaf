import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export interface LoadResult {
  readonly requests: number;
  readonly rate: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  readonly errors: Readonly<Record<string, number>>;
}

export interface LoadJob {
  readonly socket: string;
  /** With both: TLS, as CredHub connects. */
  readonly ca?: string;
  readonly host?: string;
  readonly method: 'encrypt' | 'decrypt' | 'echo' | 'status';
  readonly size: number;
  readonly inFlight: number;
  readonly seconds: number;
  readonly warmUpSeconds: number;
  /** End of the run, whatever its time. */
  readonly maxRequests?: number;
  /** Pause in milliseconds after each answer, for probing beside another load. */
  readonly intervalMs?: number;
}

/** Builds the load client of bench/load. @returns its path. */
export const buildLoadClient = (): string => build('load');

/** Builds the plainest plugin in Go, of bench/peer. @returns its path. */
export const buildPeer = (): string => build('peer');

function build(program: 'load' | 'peer'): string {
  const binary = path.join(mkdtempSync(path.join(tmpdir(), `kms-${program}-`)), program);
  execFileSync('go', ['build', '-o', binary, '.'], { cwd: path.join(import.meta.dirname, program), stdio: 'inherit' });
  return binary;
}

/** One run: one connection, so many calls in flight, for so long. */
export function load(binary: string, job: LoadJob): Promise<LoadResult> {
  const tls = job.ca === undefined || job.host === undefined ? [] : ['-ca', job.ca, '-host', job.host];
  const child = spawn(
    binary,
    [
      ...['-socket', job.socket, ...tls, '-method', job.method, '-sizes', String(job.size)],
      ...['-in-flight', String(job.inFlight), '-measured', `${job.seconds}s`, '-warm-up', `${job.warmUpSeconds}s`],
      ...(job.intervalMs === undefined ? [] : ['-interval', `${job.intervalMs}ms`]),
      ...(job.maxRequests === undefined ? [] : ['-max-requests', String(job.maxRequests)]),
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => {
      if (status === 0) resolve(JSON.parse(text) as LoadResult);
      else reject(new Error(`the load client ended with ${status ?? 'a signal'}`));
    });
  });
}
