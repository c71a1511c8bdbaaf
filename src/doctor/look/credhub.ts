import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { allProcesses, type Process } from './processes.ts';

/** One provider of CredHub's encryption.yml. Passwords of the internal provider are not taken along. */
export interface Provider {
  readonly name: string;
  readonly type: string;
  readonly keys: readonly { readonly active: boolean }[];
  readonly endpoint: string | undefined;
  readonly host: string | undefined;
  /** PEM. */
  readonly ca: string | undefined;
}

export type Providers =
  | { readonly kind: 'absent' }
  | { readonly kind: 'trouble'; readonly why: string }
  | {
      readonly kind: 'known';
      readonly file: string;
      readonly providers: readonly Provider[];
      /** Whether this instance makes a canary that is missing (its job: the bootstrap instance); the others wait for it. */
      readonly makesCanary: boolean | undefined;
    };

type Loose = Readonly<Record<string, unknown>>;

/** Reads the providers as CredHub's BOSH job renders them. */
export function readProviders(directory: string): Providers {
  const file = path.join(directory, 'encryption.yml');
  try {
    const root = parse(readFileSync(file, 'utf8')) as {
      encryption?: { providers?: unknown; key_creation_enabled?: unknown };
    } | null;
    const providers = root?.encryption?.providers;
    const creates = root?.encryption?.key_creation_enabled;
    if (!Array.isArray(providers)) return { kind: 'trouble', why: `${file} lists no providers` };
    const makesCanary = typeof creates === 'boolean' ? creates : undefined;
    return { kind: 'known', file, providers: (providers as Loose[]).map(provider), makesCanary };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return { kind: 'absent' };
    // A parser's message quotes the text, which may hold a password.
    return { kind: 'trouble', why: code === undefined ? `${file} is no YAML` : `${file} cannot be read (${code})` };
  }
}

function provider(raw: Loose): Provider {
  const configuration = (raw['configuration'] ?? {}) as Loose;
  const keys = Array.isArray(raw['keys']) ? (raw['keys'] as Loose[]) : [];
  return {
    name: text(raw['provider_name']) ?? '',
    type: text(raw['provider_type']) ?? '',
    keys: keys.map((key) => ({ active: key['active'] === true })),
    endpoint: text(configuration['endpoint']),
    host: text(configuration['host']),
    ca: text(configuration['ca']),
  };
}

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);

/** CredHub's Java process. */
export function credhubProcess(proc: string): Process | undefined {
  return allProcesses(proc).find((process) => {
    const [program = '', ...rest] = process.arguments;
    return path.basename(program) === 'java' && rest.some((word) => path.basename(word) === 'credhub.jar');
  });
}

/** Its API's port, and the one of its health, as configured and started. */
export function credhubPorts(directory: string, process: Process): readonly number[] {
  const management = process.arguments
    .map((word) => /^--management\.server\.port=(\d+)$/.exec(word)?.[1])
    .find((port) => port !== undefined);
  return [apiPort(directory), ...(management === undefined ? [] : [Number(management)])];
}

function apiPort(directory: string): number {
  const USUAL = 8844;
  try {
    const root = parse(readFileSync(path.join(directory, 'server.yml'), 'utf8')) as {
      server?: { port?: unknown };
    } | null;
    const port = Number(root?.server?.port);
    return Number.isInteger(port) && port > 0 ? port : USUAL;
  } catch {
    return USUAL;
  }
}
