/** What a client finds at fault on one way from the server's certificate to a CA. */
import type { X509Certificate } from 'node:crypto';
import { contentsOf, type Contents } from './contents.ts';
import { caKeyTrouble, extensionTrouble, serverKeyTrouble, signatureIsTaken, TAKES } from './credhub.ts';
import type { Path } from './path.ts';

export interface Judgement {
  readonly credhub: boolean;
  readonly now: Date;
}

export interface Fault {
  readonly file: 'certificate' | 'ca';
  readonly about: 'time' | 'ca' | 'server key' | 'other';
  /** The rest of a sentence that begins with the file's property. */
  readonly trouble: string;
  readonly mend: string;
  /** CredHub's client takes it all the same; Node.js does not, and so `roundtrip` and `doctor` cannot connect. */
  readonly taken: boolean;
}

/** @param anchored - whether the last of the path is from the client's own CAs */
export function findFaults(path: Path, anchored: boolean, { credhub, now }: Judgement): Fault[] {
  const contents = path.map(contentsOf);
  return path.flatMap((certificate, index) => {
    const own = contents[index];
    if (own === undefined) return [];
    const isAnchor = anchored && index === path.length - 1;
    const file = isAnchor && index > 0 ? 'ca' : 'certificate';
    const found = [
      timeFault(certificate, now, credhub && isAnchor),
      ...(index === 0 ? [] : [issuerFault(certificate, own)]),
      ...(credhub ? [keyFault(certificate, own, index)] : [curveFault(own)]),
      ...(credhub && !isAnchor ? [signatureFault(own, contents[index + 1]), extensionFault(own, certificate)] : []),
      ...(credhub && index === 0 ? [useFault(own)] : []),
    ];
    return found.filter((fault) => fault !== undefined).map((fault) => ({ taken: false, ...fault, file }) as const);
  });
}

type Found = (Omit<Fault, 'file' | 'taken'> & { readonly taken?: boolean }) | undefined;

/** @param taken - the certificate is a client's own, whose dates the Java runtime does not read (RFC 5280, section 6.1.1, d) */
function timeFault(certificate: X509Certificate, now: Date, taken: boolean): Found {
  const { validFromDate: from, validToDate: to } = certificate;
  const who = `the certificate for ${subjectOf(certificate)}`;
  if (now > to) {
    const trouble = `has run out: ${who} was valid until ${to.toISOString()}`;
    return { about: 'time', trouble, mend: 'renew the certificate', taken };
  }
  if (now >= from) return undefined;
  const trouble = `is not yet valid: ${who} begins at ${from.toISOString()}`;
  return { about: 'time', trouble, mend: "wait, make it again, or set the host's clock", taken };
}

function issuerFault(certificate: X509Certificate, { maySign }: Contents): Found {
  if (certificate.ca && maySign) return undefined;
  const trouble = `is not a CA: the certificate for ${subjectOf(certificate)} may sign no others`;
  const wanted = certificate.ca ? 'keyUsage keyCertSign, or no keyUsage' : 'basicConstraints CA:TRUE';
  return { about: 'ca', trouble, mend: `make the CA with ${wanted}, and sign the certificate again` };
}

function keyFault(certificate: X509Certificate, { key }: Contents, index: number): Found {
  const trouble = index === 0 ? serverKeyTrouble(key) : caKeyTrouble(key);
  if (trouble === undefined) return undefined;
  const who = index === 0 ? '' : `: the CA ${subjectOf(certificate)}`;
  const mend =
    index === 0
      ? `make a new pair; it takes ${TAKES.serverKey}`
      : `make a new CA and sign the certificate with it; it takes ${TAKES.caKey}`;
  return {
    about: index === 0 ? 'server key' : 'ca',
    trouble: `has ${trouble}, which CredHub's client does not take${who}`,
    mend,
  };
}

/** Node.js crashes when it shows a certificate whose curve has no name of NIST's, and our own clients have it do so. */
function curveFault({ key: { curve } }: Contents): Found {
  if (curve === undefined || /^P-\d+$/.test(curve)) return undefined;
  const trouble = `has an EC key (${curve}), which Node.js cannot read`;
  return { about: 'server key', trouble, mend: `make a new pair: ${TAKES.serverKey}` };
}

function signatureFault({ signature }: Contents, issuer: Contents | undefined): Found {
  // An issuer's key that is refused has a fault of its own.
  if (signatureIsTaken(signature) || (issuer !== undefined && caKeyTrouble(issuer.key) !== undefined)) return undefined;
  const trouble = `is signed in a way that CredHub's client does not take (${signature})`;
  return { about: 'other', trouble, mend: `have it signed again; it takes ${TAKES.signature}` };
}

function extensionFault(contents: Contents, certificate: X509Certificate): Found {
  const found = extensionTrouble(contents, certificate);
  return found === undefined ? undefined : { about: 'other', ...found };
}

function useFault({ mayServe }: Contents): Found {
  if (mayServe) return undefined;
  const trouble = "has a keyUsage without digitalSignature, which CredHub's client wants for TLS";
  return { about: 'other', trouble, mend: 'make the certificate with keyUsage digitalSignature, or without keyUsage' };
}

export const subjectOf = (certificate: X509Certificate): string =>
  certificate.subject ? certificate.subject.replaceAll('\n', ', ') : 'an empty subject';
