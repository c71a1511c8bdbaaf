/** A directory with everything that a good configuration names, made with openssl, and configurations to break. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { stringify } from 'yaml';
import { checkConfig, type ConfigCheck } from '../../src/config/index.ts';

export type Section = Record<string, unknown>;

/** A configuration as an object, loosely typed: tests put into it what does not belong there. */
export interface Raw extends Section {
  state_dir?: unknown;
  listeners: (Section & { tls?: Section })[];
  token: Section;
  keys: Section[];
}

export const HOST = 'kms-plugin.test';
const DAY_MS = 86_400_000;

export interface Certificate {
  readonly certificate: string;
  readonly key: string;
}

export interface CertificateOptions {
  readonly names?: string;
  readonly from?: Date;
  readonly to?: Date;
  readonly usage?: string;
  readonly ca?: boolean;
  readonly rsaBits?: number;
  /** Options of `openssl genpkey` in place of P-256. */
  readonly genpkey?: readonly string[];
  /** The certificate's subject; by default its name. */
  readonly subject?: string;
  /** Another certificate's private key, in place of a new one. */
  readonly keyOf?: Certificate;
  readonly digest?: string;
  /** Lines of openssl's configuration for further extensions. */
  readonly extensions?: readonly string[];
  readonly issuer?: Certificate;
}

export class Fixture {
  readonly directory = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'cfg-')));
  readonly ca = this.certify('ca', { ca: true });
  readonly server = this.certify('server', { names: `DNS:${HOST}`, issuer: this.ca });

  constructor() {
    process.on('exit', () => rmSync(this.directory, { recursive: true, force: true }));
    mkdirSync(this.at('run'), { mode: 0o700 });
    this.write('module.so', 'a module');
    this.write('pin', 'no-newline');
  }

  at(name: string): string {
    return path.join(this.directory, name);
  }

  write(name: string, contents: string | Uint8Array, mode = 0o600): string {
    writeFileSync(this.at(name), contents, { mode });
    return this.at(name);
  }

  /** Makes NAME.crt and NAME.key; signed by itself without an issuer. */
  certify(name: string, options: CertificateOptions): Certificate {
    const { names, usage, ca = false, issuer } = options;
    const certificate = this.at(`${name}.crt`);
    const key = this.at(`${name}.key`);
    if (options.keyOf === undefined) openssl('genpkey', ...keyOptions(options), '-out', key);
    else copyFileSync(options.keyOf.key, key);
    openssl('req', '-new', '-key', key, '-subj', options.subject ?? `/CN=${name}`, '-out', this.at(`${name}.csr`));
    const extensions = [`basicConstraints=critical,CA:${ca ? 'TRUE' : 'FALSE'}`];
    if (names !== undefined) extensions.push(`subjectAltName=${names}`);
    if (usage !== undefined) extensions.push(`extendedKeyUsage=${usage}`);
    extensions.push(...(options.extensions ?? []));
    this.write(`${name}.index`, '');
    // `openssl ca` is the one command of OpenSSL 3.0 that takes both dates.
    this.write(
      `${name}.cnf`,
      [
        `[ca]\ndefault_ca=it\n[it]\ndatabase=${this.at(`${name}.index`)}\nnew_certs_dir=${this.directory}`,
        `rand_serial=yes\ndefault_md=${options.digest ?? 'sha256'}\npolicy=any\nx509_extensions=ext\nunique_subject=no`,
        `[any]\ncommonName=optional\n[ext]\n${extensions.join('\n')}\n`,
      ].join('\n'),
    );
    const signer =
      issuer === undefined ? ['-selfsign', '-keyfile', key] : ['-cert', issuer.certificate, '-keyfile', issuer.key];
    const from = opensslTime(options.from ?? new Date(Date.now() - DAY_MS));
    const to = opensslTime(options.to ?? new Date(Date.now() + 365 * DAY_MS));
    openssl(
      'ca',
      '-batch',
      '-notext',
      '-config',
      this.at(`${name}.cnf`),
      '-in',
      this.at(`${name}.csr`),
      '-out',
      certificate,
      '-startdate',
      from,
      '-enddate',
      to,
      ...signer,
    );
    return { certificate, key };
  }

  /** A configuration without fault or warning. */
  good(): Raw {
    return {
      state_dir: 'state',
      listeners: [
        {
          name: 'credhub',
          endpoint: 'run/credhub.sock',
          apis: ['v1beta1'],
          tls: { certificate: 'server.crt', private_key: 'server.key', ca: 'ca.crt', host: HOST },
        },
        { name: 'kubernetes', endpoint: 'unix://' + this.at('run/kubernetes.sock'), apis: ['v1beta1', 'v2'] },
      ],
      token: { module: 'module.so', partition: { label: 'credhub' }, pin_file: 'pin' },
      keys: [
        { label: 'key-2026', state: 'active' },
        { label: 'key-2024', state: 'decrypt' },
      ],
    };
  }

  /** Checks a file with this text. */
  checkText(text: string | Uint8Array): ConfigCheck {
    return checkConfig(this.write('kms-plugin.yml', text));
  }

  check(raw: unknown): ConfigCheck {
    return this.checkText(stringify(raw, { aliasDuplicateObjects: false }));
  }
}

function keyOptions({ rsaBits, genpkey }: CertificateOptions): readonly string[] {
  if (genpkey !== undefined) return genpkey;
  return rsaBits === undefined ? ecKey('P-256') : ['-algorithm', 'RSA', '-pkeyopt', `rsa_keygen_bits:${rsaBits}`];
}

export const ecKey = (curve: string): readonly string[] => [
  '-algorithm',
  'EC',
  '-pkeyopt',
  `ec_paramgen_curve:${curve}`,
];

function openssl(...options: string[]): void {
  execFileSync('openssl', options, { stdio: 'pipe' });
}

const opensslTime = (date: Date): string => `${date.toISOString().slice(0, 19).replaceAll(/[-:T]/g, '')}Z`;

/** The listener at `index`, or a failed test. */
export function listenerOf(raw: Raw, index: number): Section & { tls?: Section } {
  const listener = raw.listeners[index];
  if (listener === undefined) throw new Error(`no listener ${index}`);
  return listener;
}

export function tlsOf(raw: Raw): Section {
  const { tls } = listenerOf(raw, 0);
  if (tls === undefined) throw new Error('no tls');
  return tls;
}

export function keyOf(raw: Raw, index: number): Section {
  const key = raw.keys[index];
  if (key === undefined) throw new Error(`no key ${index}`);
  return key;
}
