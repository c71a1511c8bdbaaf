/** Whether a certificate is for a host, as CredHub's client sees it: the Java runtime's HostnameChecker (RFC 2818, section 3.1). */
import { X509Certificate } from 'node:crypto';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { contentsOf } from './contents.ts';

/** `own` where the certificate names the host as every client reads it; else what only CredHub's takes, or undefined. */
export type Naming = 'own' | 'common name' | 'wide wildcard' | undefined;

export function namingOf(certificate: X509Certificate, host: string): Naming {
  if (certificate.checkHost(host, { subject: 'never' }) !== undefined) return 'own';
  const { dnsNames, commonName } = contentsOf(certificate);
  if (dnsNames.some((name) => matches(host, name))) return 'wide wildcard';
  // The subject counts only where no DNS name is among the alternative ones.
  return dnsNames.length === 0 && commonName !== undefined && matches(host, commonName) ? 'common name' : undefined;
}

/** In place of Node's function of this name: our own clients take the names that CredHub's takes. */
export function checkIdentity(host: string, certificate: PeerCertificate): Error | undefined {
  const refused = checkServerIdentity(host, certificate);
  return refused === undefined || namingOf(new X509Certificate(certificate.raw), host) === undefined
    ? refused
    : undefined;
}

/** Part by part; a `*` stands for any characters within its part. The first dot comes after the last `*`. */
function matches(host: string, pattern: string): boolean {
  const wanted = pattern.toLowerCase().split('.');
  const parts = host.toLowerCase().split('.');
  if (wanted.at(-1)?.includes('*') === true || wanted.length !== parts.length) return false;
  return wanted.every((part, index) => {
    const [first = '', ...rest] = part.split('*').map((text) => text.replaceAll(/[^a-z0-9-]/g, String.raw`\$&`));
    return new RegExp(`^${[first, ...rest].join('.*')}$`).test(parts[index] ?? '');
  });
}
