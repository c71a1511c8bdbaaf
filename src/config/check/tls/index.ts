/** A listener's certificate, private key and CA, as its clients will judge them. */
import type { KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { Sheet } from '../../problems.ts';
import type { TlsDraft } from '../../schema.ts';
import { hostTrouble, TAKES } from './credhub.ts';
import { findFaults, subjectOf, type Fault, type Judgement } from './faults.ts';
import { namingOf } from './names.ts';
import { pathsOf, type Path } from './path.ts';
import { certificatesIn, readCertificates, readPrivateKey } from './pem.ts';

const DAY_MS = 86_400_000;
const WARN_DAYS = 30;
/** id-kp-serverAuth (RFC 5280, section 4.2.1.12), and Netscape's and Microsoft's of old, which count as the same. */
const SERVER_AUTH = ['1.3.6.1.5.5.7.3.1', '2.16.840.1.113730.4.1', '1.3.6.1.4.1.311.10.3.3'];
/** anyExtendedKeyUsage, which the Java runtime takes for serverAuth and OpenSSL does not. */
const ANY_PURPOSE = '2.5.29.37.0';
const ONLY_CREDHUB = "which CredHub's client takes and Node.js does not: roundtrip and doctor cannot connect";

/** @param credhub - whether CredHub's client is to come here: a listener that serves v1beta1 */
export function checkTls(property: string, tls: TlsDraft, credhub: boolean, sheet: Sheet): void {
  const chain = readCertificates(`${property}.certificate`, tls.certificate, sheet);
  const key = readPrivateKey(`${property}.private_key`, tls.private_key, sheet);
  const authorities = readCertificates(`${property}.ca`, tls.ca ?? undefined, sheet);
  const leaf = chain?.[0];
  if (chain === undefined || leaf === undefined) return;
  const fits = key === undefined || checkPair(property, chain, leaf, key, sheet);
  checkHost(property, leaf, tls.host, credhub, sheet);
  checkPurpose(property, leaf, credhub, sheet);
  const faulty = checkPath(property, chain, authorities, { credhub, now: new Date() }, sheet);
  // A key that no client takes needs no second opinion.
  if (key !== undefined && fits && !faulty) checkServing(property, chain, key, sheet);
}

/**
 * A client looks for one good way from the server's certificate to one of its CAs: what else lies in the two files does not
 * matter. Where there is none, the faults of the best are reported. Says whether the certificate's own key is among them.
 */
function checkPath(
  property: string,
  chain: readonly X509Certificate[],
  authorities: readonly X509Certificate[] | undefined,
  judgement: Judgement,
  sheet: Sheet,
): boolean {
  let paths = pathsOf(chain, authorities);
  let anchored = authorities !== undefined;
  if (paths.length === 0) {
    const trouble = `did not sign the certificate, whose issuer is ${oneLine(chain[0]?.issuer ?? 'unknown')}`;
    const mend = 'give the CA that signed it, and put certificates between the two into the certificate file';
    sheet.problem(`${property}.ca`, trouble, mend);
    paths = pathsOf(chain, undefined);
    anchored = false;
  }
  const judged = paths.map((path) => ({ path, anchored, faults: findFaults(path, anchored, judgement) }));
  // Fewest faults first, those that CredHub's client takes last; of equal ones that which lasts longest.
  const weightOf = (faults: readonly Fault[]): number => faults.reduce((sum, { taken }) => sum + (taken ? 1 : 100), 0);
  judged.sort((a, b) => weightOf(a.faults) - weightOf(b.faults) || endOf(b.path) - endOf(a.path));
  const [best] = judged;
  if (best === undefined) return false;
  for (const { file, trouble, mend, taken } of best.faults) {
    if (taken) sheet.warn(`${property}.${file}`, `${trouble}, ${ONLY_CREDHUB}`, mend);
    else sheet.problem(`${property}.${file}`, trouble, mend);
  }
  warnOfEnd(property, best.path, anchored, judgement.now, sheet);
  return best.faults.some(({ about }: Fault) => about === 'server key');
}

const endOf = (path: Path): number => Math.min(...path.map(({ validToDate }) => validToDate.getTime()));

function warnOfEnd(property: string, path: Path, anchored: boolean, now: Date, sheet: Sheet): void {
  path.forEach((certificate, index) => {
    const left = certificate.validToDate.getTime() - now.getTime();
    if (left < 0 || left >= WARN_DAYS * DAY_MS || now < certificate.validFromDate) return;
    const file = anchored && index > 0 && index === path.length - 1 ? 'ca' : 'certificate';
    const until = `the certificate for ${subjectOf(certificate)} is valid until ${certificate.validToDate.toISOString()}`;
    const trouble = `runs out in ${Math.floor(left / DAY_MS)} days: ${until}`;
    sheet.warn(`${property}.${file}`, trouble, 'renew the certificate and run kms-plugin reload');
  });
}

/** Whether the private key is that of the first certificate. */
function checkPair(
  property: string,
  chain: readonly X509Certificate[],
  leaf: X509Certificate,
  key: KeyObject,
  sheet: Sheet,
): boolean {
  if (leaf.checkPrivateKey(key)) return true;
  if (chain.some((certificate) => certificate.checkPrivateKey(key))) {
    const mend = "put the server's certificate first and those of its issuers after it";
    sheet.problem(`${property}.certificate`, "does not begin with the private key's certificate", mend);
  } else {
    const trouble = `does not belong to the certificate for ${subjectOf(leaf)}`;
    sheet.problem(`${property}.private_key`, trouble, 'give certificate and private key of one pair');
  }
  return false;
}

function checkServing(property: string, chain: readonly X509Certificate[], key: KeyObject, sheet: Sheet): void {
  const trouble = refusedByTls(chain, key);
  if (trouble === undefined) return;
  const mend = `make a new pair: ${TAKES.serverKey}, signed with SHA-256`;
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

function checkHost(
  property: string,
  leaf: X509Certificate,
  host: string | null | undefined,
  credhub: boolean,
  sheet: Sheet,
): void {
  const carried = `it carries ${leaf.subjectAltName ?? 'none'}`;
  const unusable = typeof host === 'string' ? hostTrouble(host) : undefined;
  if (unusable !== undefined) {
    const mend = 'choose a name such as kms-plugin.internal, here, in the certificate and in CredHub';
    sheet.problem(`${property}.host`, `${unusable}, and CredHub's client looks for host names only`, mend);
    return;
  }
  const naming = typeof host === 'string' ? namingOf(leaf, host) : undefined;
  if (typeof host === 'string' && naming !== 'own') {
    const mend = `make the certificate with the DNS subject alternative name ${host}; clients look at no other name`;
    if (naming !== undefined && credhub) {
      const trouble = `names ${host} by a ${naming} alone, which CredHub's client takes and most others do not; ${carried}`;
      sheet.warn(`${property}.certificate`, trouble, mend.replace('clients', 'most clients'));
      return;
    }
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

function checkPurpose(property: string, leaf: X509Certificate, credhub: boolean, sheet: Sheet): void {
  const purpose = purposeOf(leaf);
  if (purpose === 'server') return;
  const mend = 'make the certificate with extendedKeyUsage serverAuth';
  if (purpose === 'any' && credhub) {
    const trouble = `has extendedKeyUsage anyExtendedKeyUsage in place of serverAuth, ${ONLY_CREDHUB}`;
    sheet.warn(`${property}.certificate`, trouble, mend);
  } else {
    sheet.problem(`${property}.certificate`, 'is not for servers, so clients refuse it', mend);
  }
}

function purposeOf(leaf: X509Certificate): 'server' | 'any' | 'other' {
  // X509Certificate.keyUsage is the extended key usage; undefined when the certificate has none and so serves for all.
  const purposes = leaf.keyUsage as readonly string[] | undefined;
  if (purposes?.some((purpose) => SERVER_AUTH.includes(purpose)) ?? true) return 'server';
  return purposes?.includes(ANY_PURPOSE) === true ? 'any' : 'other';
}

/** Whether CredHub's client, with this CA file and host, takes a certificate; with it come those that the server sent. */
export function credhubTakes(chain: readonly X509Certificate[], caPem: Buffer, host: string, now: Date): boolean {
  const [leaf] = chain;
  if (leaf === undefined || namingOf(leaf, host) === undefined || purposeOf(leaf) === 'other') return false;
  return pathsOf(chain, certificatesIn(caPem)).some((path) =>
    findFaults(path, true, { credhub: true, now }).every(({ taken }) => taken),
  );
}

const oneLine = (names: string): string => names.replaceAll('\n', ', ');
