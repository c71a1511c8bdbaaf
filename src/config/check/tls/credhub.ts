/**
 * What CredHub's client takes: grpc-java on netty-tcnative (BoringSSL) for the handshake, the Java runtime's PKIX for the
 * path. test/java holds each rule against that client.
 */
import type { X509Certificate } from 'node:crypto';
import { SUBJECT_ALTERNATIVE_NAME, type Contents, type PublicKey } from './contents.ts';

const SERVER_CURVES = ['P-256', 'P-384'];
const CA_CURVES = [...SERVER_CURVES, 'P-521'];
const MIN_RSA_BITS = 2048;
const MAX_RSA_BITS = 8192;
const MIN_CA_RSA_BITS = 1024;
const RSA = `RSA with ${shownBits(MIN_RSA_BITS)} bits or more, up to ${shownBits(MAX_RSA_BITS)}`;

export const TAKES = {
  serverKey: `ECDSA ${SERVER_CURVES.join(' or ')}, or ${RSA}`,
  caKey: `ECDSA ${CA_CURVES.slice(0, -1).join(', ')} or ${CA_CURVES.at(-1) ?? ''}, ${RSA}, or RSA-PSS`,
  signature: 'SHA-256, SHA-384 or SHA-512 with ECDSA, RSA or RSA-PSS',
};

const SIGNATURE = /^SHA-(1|224|256|384|512) with (ECDSA|RSA|RSA-PSS)$/;

/** Extensions that the Java runtime knows; of any other that is critical the certificate is refused (RFC 5280, section 4.2). */
const KNOWN_EXTENSIONS = new Set(
  ['15', '17', '19', '30', '32', '33', '36', '37', '54'].map((number) => `2.5.29.${number}`),
);

/** Why the key of a server's certificate is refused. */
export function serverKeyTrouble(key: PublicKey): string | undefined {
  const { algorithm, curve = '', bits = 0 } = key;
  // The TLS library refuses shorter ones here before a client sees them.
  if (algorithm === 'RSA' && bits <= MAX_RSA_BITS) return undefined;
  return algorithm === 'EC' && SERVER_CURVES.includes(curve) ? undefined : shownKey(key);
}

/** Why the key of an issuer is refused. */
export function caKeyTrouble(key: PublicKey): string | undefined {
  const { algorithm, curve = '', bits = 0 } = key;
  const rsa = algorithm === 'RSA' || algorithm === 'RSA-PSS';
  if (rsa && bits >= MIN_CA_RSA_BITS && bits <= MAX_RSA_BITS) return undefined;
  return algorithm === 'EC' && CA_CURVES.includes(curve) ? undefined : shownKey(key);
}

export const signatureIsTaken = (signature: string): boolean => SIGNATURE.test(signature);

/** What else of a certificate below the CA makes the client refuse it; its trouble and what to do. */
export function extensionTrouble(
  { critical, subjectIsEmpty }: Contents,
  certificate: X509Certificate,
): { trouble: string; mend: string } | undefined {
  const unknown = critical.find((id) => !KNOWN_EXTENSIONS.has(id));
  if (unknown !== undefined) {
    const trouble = `has the critical extension ${unknown}, which clients do not know`;
    return { trouble, mend: 'make the certificate without that extension, or not critical' };
  }
  if (subjectIsEmpty && certificate.subjectAltName !== undefined && !critical.includes(SUBJECT_ALTERNATIVE_NAME)) {
    const trouble = 'has an empty subject and a subject alternative name that is not critical';
    return { trouble, mend: 'give it a subject, such as CN=kms-plugin, or make subjectAltName critical' };
  }
  return undefined;
}

/**
 * Why a host is no name that CredHub's client would look for: it checks what it is to find before it looks, by the rules for
 * host names (RFC 1123: letters, digits and hyphens), and takes digits and dots as an address.
 */
export function hostTrouble(host: string): string | undefined {
  if (/^[0-9.]+$/.test(host) || host.includes(':')) return 'is an address';
  const labels = host.split('.');
  if (labels.some((label) => label === '' || label.length > 63)) {
    return 'has a part between dots that is empty or longer than 63 characters';
  }
  return labels.every((label) => /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/i.test(label))
    ? undefined
    : 'has characters other than letters, digits, and hyphens between them';
}

function shownKey({ algorithm, curve, bits }: PublicKey): string {
  if (curve !== undefined) return `an EC key (${curve})`;
  return bits === undefined ? `a key of the kind ${algorithm}` : `an ${algorithm} key of ${shownBits(bits)} bits`;
}

function shownBits(bits: number): string {
  return bits.toLocaleString('en-US');
}
