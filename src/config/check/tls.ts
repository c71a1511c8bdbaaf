/** A listener's certificate, private key and CA, as its clients will judge them. */
import type { KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { Sheet } from '../problems.ts';
import type { TlsDraft } from '../schema.ts';
import { readCertificates, readPrivateKey } from './pem.ts';

const DAY_MS = 86_400_000;
const WARN_DAYS = 30;
/** id-kp-serverAuth, RFC 5280, section 4.2.1.12. */
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';

export function checkTls(property: string, tls: TlsDraft, sheet: Sheet): void {
  const chain = readCertificates(`${property}.certificate`, tls.certificate, sheet);
  const key = readPrivateKey(`${property}.private_key`, tls.private_key, sheet);
  const authorities = readCertificates(`${property}.ca`, tls.ca ?? undefined, sheet);
  const leaf = chain?.[0];
  if (chain === undefined || leaf === undefined) return;
  chain.forEach((certificate) => checkTime(`${property}.certificate`, certificate, sheet));
  if (key !== undefined) checkPair(property, chain, leaf, key, sheet);
  checkHost(property, leaf, tls.host, sheet);
  checkPurpose(property, leaf, sheet);
  if (authorities !== undefined) checkIssuer(property, chain, authorities, sheet);
}

function checkPair(
  property: string,
  chain: readonly X509Certificate[],
  leaf: X509Certificate,
  key: KeyObject,
  sheet: Sheet,
): void {
  if (!leaf.checkPrivateKey(key)) {
    if (chain.some((certificate) => certificate.checkPrivateKey(key))) {
      const mend = "put the server's certificate first and those of its issuers after it";
      sheet.problem(`${property}.certificate`, "does not begin with the private key's certificate", mend);
      return;
    }
    const trouble = `does not belong to the certificate for ${subjectOf(leaf)}`;
    sheet.problem(`${property}.private_key`, trouble, 'give certificate and private key of one pair');
    return;
  }
  const trouble = refusedByTls(chain, key);
  if (trouble === undefined) return;
  const mend = 'make a new pair: ECDSA P-256, or RSA with 2,048 bits or more, signed with SHA-256';
  sheet.problem(`${property}.certificate`, `cannot serve TLS (${trouble})`, mend);
}

/** What the TLS library itself has against them, such as a key that is too short. */
function refusedByTls(chain: readonly X509Certificate[], key: KeyObject): string | undefined {
  const pem = Buffer.from(key.export({ type: 'pkcs8', format: 'pem' }));
  try {
    createSecureContext({ cert: chain.map((certificate) => certificate.toString()).join(''), key: pem });
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message.replace(/^error:[0-9A-F]*:/, '') : 'unknown reason';
  } finally {
    pem.fill(0);
  }
}

function checkTime(property: string, certificate: X509Certificate, sheet: Sheet): void {
  const now = Date.now();
  const from = certificate.validFromDate;
  const to = certificate.validToDate;
  const who = `the certificate for ${subjectOf(certificate)}`;
  if (now > to.getTime()) {
    sheet.problem(property, `has run out: ${who} was valid until ${to.toISOString()}`, 'renew the certificate');
  } else if (now < from.getTime()) {
    const mend = "wait, make it again, or set the host's clock";
    sheet.problem(property, `is not yet valid: ${who} begins at ${from.toISOString()}`, mend);
  } else if (to.getTime() - now < WARN_DAYS * DAY_MS) {
    const days = Math.floor((to.getTime() - now) / DAY_MS);
    const trouble = `runs out in ${days} days: ${who} is valid until ${to.toISOString()}`;
    sheet.warn(property, trouble, 'renew the certificate and run kms-plugin reload');
  }
}

function checkHost(property: string, leaf: X509Certificate, host: string | null | undefined, sheet: Sheet): void {
  const carried = `it carries ${leaf.subjectAltName ?? 'none'}`;
  if (typeof host === 'string' && leaf.checkHost(host, { subject: 'never' }) === undefined) {
    const mend = `make the certificate with the DNS subject alternative name ${host}; clients look at no other name`;
    sheet.problem(
      `${property}.certificate`,
      `does not name ${host} as a DNS subject alternative name; ${carried}`,
      mend,
    );
  } else if (host === null && !/(^|, )DNS:/.test(leaf.subjectAltName ?? '')) {
    const mend = "make the certificate with the client's host name as a DNS subject alternative name";
    sheet.warn(`${property}.certificate`, `has no DNS subject alternative name, which CredHub needs; ${carried}`, mend);
  }
}

function checkPurpose(property: string, leaf: X509Certificate, sheet: Sheet): void {
  // X509Certificate.keyUsage is the extended key usage; undefined when the certificate has none and so serves for all.
  const purposes = leaf.keyUsage as readonly string[] | undefined;
  if (purposes === undefined || purposes.includes(SERVER_AUTH)) return;
  const mend = 'make the certificate with extendedKeyUsage serverAuth';
  sheet.problem(`${property}.certificate`, 'is not for servers, so clients refuse it', mend);
}

function checkIssuer(
  property: string,
  chain: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
  sheet: Sheet,
): void {
  const issuer = findAuthority(chain, authorities);
  if (issuer === undefined) {
    const leaf = chain[0];
    const trouble = `did not sign the certificate, whose issuer is ${leaf === undefined ? 'unknown' : oneLine(leaf.issuer)}`;
    const mend = 'give the CA that signed it, and put certificates between the two into the certificate file';
    sheet.problem(`${property}.ca`, trouble, mend);
    return;
  }
  checkTime(`${property}.ca`, issuer, sheet);
  if (!issuer.ca && issuer.fingerprint256 !== chain[0]?.fingerprint256) {
    const mend = 'make the CA with basicConstraints CA:TRUE, and sign the certificate again';
    sheet.problem(`${property}.ca`, `is not a CA: the certificate for ${subjectOf(issuer)} may sign no others`, mend);
  }
}

/** Follows the signatures from the server's certificate through the chain's others to one of the authorities. */
function findAuthority(
  chain: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
): X509Certificate | undefined {
  let [current, ...between] = chain;
  while (current !== undefined) {
    const signed = current;
    const isIssuer = (other: X509Certificate): boolean => signed.checkIssued(other) && signed.verify(other.publicKey);
    const authority = authorities.find(isIssuer);
    if (authority !== undefined) return authority;
    const next = between.find(isIssuer);
    between = between.filter((other) => other !== next);
    current = next;
  }
  return undefined;
}

const oneLine = (names: string): string => names.replaceAll('\n', ', ');

const subjectOf = (certificate: X509Certificate): string =>
  certificate.subject ? oneLine(certificate.subject) : 'an empty subject';
