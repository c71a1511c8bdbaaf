import { spawn } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { KeyJob, ProvisionAnswer, ProvisionJob } from './provision.ts';

/** What may be asked of a new key. */
export interface KeyOptions {
  /** Size in bits; AES 256, generic secret 256 by default. */
  readonly size?: number;
  /** A GENERIC_SECRET key for HMAC instead of an AES key. */
  readonly generic?: boolean;
  /** CKA_ID; none by default. */
  readonly id?: Buffer;
  /** Key material, when two tokens must hold the same key. The key is then imported instead of generated. */
  readonly value?: Buffer;
  /** CKA_ names and values in place of the safe defaults; a string is hex, null leaves the attribute out. */
  readonly attributes?: Readonly<Record<string, boolean | string | number | null>>;
}

/** A fresh token behind a real PKCS#11 module, in a temporary directory. */
export interface Hsm {
  readonly name: 'softhsm2' | 'nss' | 'opencryptoki' | 'tpm2';
  /** Absolute path of the module. */
  readonly module: string;
  /** What a process that loads the module needs in its environment. */
  readonly environment: Readonly<Record<string, string>>;
  /** Command and arguments that a process which loads the module must be started behind; empty for most. */
  readonly wrap: readonly string[];
  /** What C_Initialize must be given besides flags (NSS); undefined for the others. */
  readonly libraryParameters?: string;
  /** Temporary directory of this token; removed by cleanup. */
  readonly directory: string;
  readonly label: string;
  readonly serial: string;
  readonly slot: number;
  readonly pin: string;
  readonly soPin: string;
  /** Writes the PIN (or other bytes) to a file of mode 0600 in `directory`; returns its path. */
  userPinFile(contents?: string): string;
  makeKey(label: string, options?: KeyOptions): Promise<void>;
  /** Several keys by one process: much quicker. */
  makeKeys(keys: Readonly<Record<string, KeyOptions>>): Promise<void>;
  /** Destroys every secret key under that label. */
  destroyKey(label: string): Promise<void>;
  /** Ends helpers and removes the directory. */
  cleanup(): Promise<void>;
}

type Target = Pick<Hsm, 'module' | 'environment' | 'wrap' | 'libraryParameters' | 'label' | 'pin'>;

/** Runs a program to its end: its stdout, or an error with its stderr. */
export async function run(
  command: readonly string[],
  options: { readonly environment?: Readonly<Record<string, string>>; readonly input?: string } = {},
): Promise<string> {
  const [program, ...args] = command;
  if (program === undefined) throw new Error('no command');
  const child = spawn(program, args, { env: { ...process.env, ...options.environment }, stdio: 'pipe' });
  const out: Buffer[] = [];
  const trouble: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => trouble.push(chunk));
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input ?? '');
  const code = await new Promise<number | string>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status, signal) => resolve(status ?? signal ?? 'unknown'));
  });
  if (code !== 0)
    throw new Error(`${command.join(' ')} ended with ${code}: ${Buffer.concat([...out, ...trouble]).toString()}`);
  return Buffer.concat(out).toString();
}

/** Runs one provisioning job against a token in a process of its own. */
export async function provision(target: Target, job: Partial<ProvisionJob>): Promise<ProvisionAnswer> {
  const full: ProvisionJob = {
    module: target.module,
    ...(target.libraryParameters === undefined ? {} : { libraryParameters: target.libraryParameters }),
    label: target.label,
    pin: target.pin,
    keys: [],
    destroy: [],
    ...job,
  };
  const program = path.join(import.meta.dirname, 'provision.ts');
  const answer = await run([...target.wrap, process.execPath, '--disable-warning=ExperimentalWarning', program], {
    environment: { ...target.environment, NODE_OPTIONS: '' },
    input: JSON.stringify(full),
  });
  return JSON.parse(answer) as ProvisionAnswer;
}

function keyJob(label: string, options: KeyOptions): KeyJob {
  return {
    label,
    kind: options.generic === true ? 'generic' : 'aes',
    bytes: (options.size ?? 256) / 8,
    id: options.id?.toString('hex') ?? '',
    ...(options.value === undefined ? {} : { value: options.value.toString('hex') }),
    attributes: options.attributes ?? {},
  };
}

/** The part of a fixture that is the same for every module. */
export function hsmMethods(
  target: Target & Pick<Hsm, 'directory'>,
): Pick<Hsm, 'userPinFile' | 'makeKey' | 'makeKeys' | 'destroyKey'> {
  const makeKeys = async (keys: Readonly<Record<string, KeyOptions>>): Promise<void> => {
    await provision(target, { keys: Object.entries(keys).map(([label, options]) => keyJob(label, options)) });
  };
  return {
    userPinFile(contents = target.pin) {
      const file = path.join(target.directory, 'pin');
      writeFileSync(file, contents, { mode: 0o600 });
      chmodSync(file, 0o600);
      return file;
    },
    makeKeys,
    makeKey: (label, options = {}) => makeKeys({ [label]: options }),
    async destroyKey(label) {
      await provision(target, { destroy: [label] });
    },
  };
}
