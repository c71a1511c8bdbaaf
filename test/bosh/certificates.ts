import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export interface Certificate {
  readonly certificate: string;
  readonly private_key: string;
  readonly ca: string;
}

/** A CA and a server certificate that it signed, in PEM, as a BOSH variable of type certificate has them. */
export function makeCertificate(names: readonly string[], days = 365): Certificate {
  const directory = mkdtempSync(path.join(tmpdir(), 'kms-certificate-'));
  const at = (name: string): string => path.join(directory, name);
  const openssl = (...words: string[]): void => {
    execFileSync('openssl', words, { cwd: directory, stdio: 'pipe' });
  };
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  try {
    openssl('req', '-x509', ...ec, '-keyout', 'ca.key', '-out', 'ca.crt', '-days', '730', '-subj', '/CN=ca');
    openssl('req', ...ec, '-keyout', 'server.key', '-out', 'server.csr', '-subj', `/CN=${names[0] ?? 'none'}`);
    const alternatives = names.map((name) => `DNS:${name}`).join(',');
    writeFileSync(at('extensions'), names.length === 0 ? '' : `subjectAltName=${alternatives}\n`);
    const signing = ['-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', String(days)];
    openssl('x509', '-req', '-in', 'server.csr', ...signing, '-extfile', 'extensions', '-out', 'server.crt');
    const read = (name: string): string => readFileSync(at(name), 'utf8');
    return { certificate: read('server.crt'), private_key: read('server.key'), ca: read('ca.crt') };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
