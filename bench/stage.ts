import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buildSync } from 'esbuild';
import { makeSoftHsm } from '../test/hsm/index.ts';
import { faultyModule, functionNames, type FunctionName } from '../test/module/index.ts';
import { start, type Subject } from './subject.ts';

export const HOST = 'kms-plugin.test';
const ROOT = path.join(import.meta.dirname, '..');
/** What is measured: the bundle, or another one, to compare with. */
const PROGRAM = process.env['KMS_BENCH_PROGRAM'] ?? path.join(ROOT, 'dist/kms-plugin.cjs');
/** As the packages start it. */
const NODE_FLAGS = (process.env['KMS_BENCH_NODE_FLAGS'] ?? '--max-semi-space-size=8').split(' ').filter(Boolean);

const ENVIRONMENT = { MALLOC_ARENA_MAX: '1' };

/** A token, certificates and the means to start servers on them, all in one temporary directory. */
export interface Stage {
  readonly directory: string;
  readonly ca: string;
  readonly module: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly tokenLabel: string;
  readonly pinFile: string;
  readonly keyLabel: string;
  /** @param more fields that replace those of its configuration; `sessions` is token.sessions. */
  plugin(
    name: string,
    scheme: string,
    more?: { readonly sessions?: number; readonly [field: string]: unknown },
  ): Subject;
  echo(): Subject;
  /** The plainest plugin in Go. @param binary what `buildPeer` made. */
  peer(binary: string): Subject;
  /** Makes more keys on the token. */
  makeKeys(labels: readonly string[]): Promise<void>;
  /** C_Encrypt and C_Decrypt so far; only of a stage that counts. */
  hsmCalls(): number;
  /** The token is out, or back; only on a stage that counts. */
  away(isAway: boolean): void;
  close(): Promise<void>;
}

/**
 * Go lets as many threads run Go code as there are processors, and takes one that waits in C for idle only after up to 10 ms: on
 * 2 processors that would make the plugin in Go 3 to 10 times as slow with a slow HSM as it can be.
 */
const GO_THREADS = { GOMAXPROCS: '16' };

/** Calls that go to a network HSM for every operation, the …Init calls included, as some do. */
const ROUND_TRIPS: readonly FunctionName[] = [
  'C_EncryptInit',
  'C_Encrypt',
  'C_DecryptInit',
  'C_Decrypt',
  'C_SignInit',
  'C_Sign',
];

/**
 * @param delayMs what the HSM takes for each call that goes to it, in milliseconds; 0 is SoftHSM2 as it is.
 * @param inits whether the …Init calls go to the HSM, too.
 * @param counts whether calls are counted, which puts a second module in front of SoftHSM2 also where it adds no time.
 */
export async function makeStage(delayMs: number, inits: boolean, counts = false): Promise<Stage> {
  const directory = mkdtempSync(path.join(tmpdir(), 'kms-bench-'));
  const hsm = await makeSoftHsm();
  const keyLabel = 'bench';
  await hsm.makeKey(keyLabel);
  const faulty = delayMs > 0 || counts ? faultyModule({ inner: hsm.module, innerEnv: hsm.environment }) : undefined;
  const slow = ROUND_TRIPS.filter((name) => inits || !name.endsWith('Init'));
  if (!slow.every((name) => functionNames.includes(name))) throw new Error('unknown PKCS#11 function');
  const rules = delayMs > 0 ? [{ on: slow, delayUs: delayMs * 1000 }] : [];
  faulty?.control({ rules });
  const module = faulty?.path ?? hsm.module;
  const environment = { ...(faulty?.environment ?? hsm.environment) };
  const pinFile = hsm.userPinFile();
  certificates(directory);
  bundleEcho(directory);

  const inDirectory = (name: string): string => path.join(directory, name);
  return {
    directory,
    ca: inDirectory('ca.crt'),
    module,
    environment,
    tokenLabel: hsm.label,
    pinFile,
    keyLabel,
    plugin(name, scheme, { sessions, ...more } = {}) {
      const home = inDirectory(name);
      mkdirSync(path.join(home, 'state'), { recursive: true, mode: 0o700 });
      const tls = path.join(home, 'tls.sock');
      const plain = path.join(home, 'plain.sock');
      const configuration = {
        state_dir: path.join(home, 'state'),
        listeners: [
          {
            name: 'tls',
            endpoint: tls,
            apis: ['v1beta1'],
            tls: { certificate: inDirectory('server.crt'), private_key: inDirectory('server.key') },
          },
          { name: 'plain', endpoint: plain, apis: ['v1beta1', 'v2'] },
        ],
        token: { module, partition: { label: hsm.label }, pin_file: pinFile, environment, sessions },
        keys: [{ label: keyLabel, state: 'active' }],
        scheme: JSON.parse(scheme) as unknown,
        health: { port: 0 },
        ...more,
      };
      const file = path.join(home, 'kms-plugin.yml');
      writeFileSync(file, JSON.stringify(configuration));
      const command = [process.execPath, ...NODE_FLAGS, PROGRAM, 'serve', '--config', file];
      return { name, tls, plain, process: start(command, ENVIRONMENT) };
    },
    echo() {
      const tls = inDirectory('echo-tls.sock');
      const plain = inDirectory('echo-plain.sock');
      const proto = path.join(ROOT, 'src/api/proto/v1beta1.proto');
      const files = [inDirectory('server.crt'), inDirectory('server.key')];
      const command = [process.execPath, inDirectory('echo.cjs'), proto, tls, ...files, plain];
      return { name: 'echo', tls, plain, process: start(command) };
    },
    peer(binary) {
      const tls = inDirectory('peer-tls.sock');
      const plain = inDirectory('peer-plain.sock');
      const files = ['-cert', inDirectory('server.crt'), '-cert-key', inDirectory('server.key')];
      const token = ['-module', module, '-token', hsm.label, '-pin-file', pinFile, '-key', keyLabel];
      return {
        name: 'crypto11',
        tls,
        plain,
        process: start([binary, ...token, ...files, '-tls', tls, '-plain', plain], { ...environment, ...GO_THREADS }),
      };
    },
    async makeKeys(labels) {
      await hsm.makeKeys(Object.fromEntries(labels.map((label) => [label, {}])));
    },
    hsmCalls() {
      if (faulty === undefined) throw new Error('this stage does not count');
      const { C_Encrypt, C_Decrypt } = faulty.counts().calls;
      return C_Encrypt + C_Decrypt;
    },
    away(isAway) {
      if (faulty === undefined) throw new Error('this stage has no way to take its token out');
      faulty.control(isAway ? { rules, removed: {} } : { rules });
    },
    async close() {
      faulty?.cleanup();
      await hsm.cleanup();
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** As the plugin is bundled, so that both start alike. */
function bundleEcho(directory: string): void {
  buildSync({
    entryPoints: [path.join(import.meta.dirname, 'floor/echo-service.ts')],
    outfile: path.join(directory, 'echo.cjs'),
    bundle: true,
    platform: 'node',
    format: 'cjs',
    logLevel: 'warning',
  });
}

function certificates(directory: string): void {
  const openssl = (...args: string[]): void => {
    execFileSync('openssl', args, { cwd: directory, stdio: 'ignore' });
  };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', '-x509', ...key, '-keyout', 'ca.key', '-out', 'ca.crt', '-days', '2', '-subj', '/CN=bench CA');
  openssl('req', ...key, '-keyout', 'server.key', '-out', 'server.csr', '-subj', `/CN=${HOST}`);
  writeFileSync(path.join(directory, 'names'), `subjectAltName=DNS:${HOST}\n`);
  openssl(
    ...['x509', '-req', '-in', 'server.csr', '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial'],
    ...['-days', '2', '-out', 'server.crt', '-extfile', 'names'],
  );
}
