import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { ListenerTls } from '../../../src/config/types.ts';

export const HOST = 'kms-plugin.test';

/** A CA, and server certificates of it for HOST, made by openssl. */
export class Authority {
  readonly #directory: string;
  readonly ca: Buffer;

  constructor(directory: string) {
    this.#directory = directory;
    this.#openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
      '-keyout', 'ca.key', '-out', 'ca.pem', '-subj', '/CN=test CA'); // prettier-ignore
    this.ca = readFileSync(path.join(directory, 'ca.pem'));
  }

  /** Writes `name`.pem and `name`.key, over older ones. */
  issue(name: string, days = 1): ListenerTls {
    const at = (file: string): string => path.join(this.#directory, file);
    writeFileSync(at(`${name}.ext`), `subjectAltName=DNS:${HOST}\n`);
    this.#openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
      '-keyout', `${name}.key`, '-out', `${name}.csr`, '-subj', `/CN=${name}`); // prettier-ignore
    this.#openssl('x509', '-req', '-in', `${name}.csr`, '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial',
      '-days', String(days), '-extfile', `${name}.ext`, '-out', `${name}.pem`); // prettier-ignore
    return { certificateFile: at(`${name}.pem`), privateKeyFile: at(`${name}.key`) };
  }

  #openssl(...args: string[]): void {
    execFileSync('openssl', args, { cwd: this.#directory, stdio: ['ignore', 'ignore', 'pipe'] });
  }
}
