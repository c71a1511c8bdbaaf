/** The ways from a server's certificate to a CA, as a client looks for one (RFC 5280, section 6). */
import type { X509Certificate } from 'node:crypto';

/** The server's certificate first; the last is the client's own, if it has any. */
export type Path = readonly X509Certificate[];

/** More of them are not looked at: a file with hundreds of certificates under one name would have no end of them. */
const MOST_PATHS = 200;
const LONGEST_PATH = 10;

/**
 * All ways from the first of `chain` over the others to one of `authorities`; without these, to the last that there is. A
 * certificate may stand for another with the same name and key: an older or newer one of the same CA.
 */
export function pathsOf(
  chain: readonly X509Certificate[],
  authorities: readonly X509Certificate[] | undefined,
): Path[] {
  const found: Path[] = [];
  const follow = (way: Path): void => {
    const last = way.at(-1);
    if (last === undefined || found.length >= MOST_PATHS) return;
    if (authorities?.some((authority) => isSame(authority, last)) === true) {
      found.push(way);
      return;
    }
    for (const authority of authorities ?? []) {
      if (isIssuer(last, authority)) found.push([...way, authority]);
    }
    const next =
      way.length < LONGEST_PATH
        ? chain.filter((other) => !way.some((one) => isSame(one, other)) && isIssuer(last, other))
        : [];
    if (next.length === 0 && authorities === undefined) found.push(way);
    for (const one of next) follow([...way, one]);
  };
  follow(chain.slice(0, 1));
  return found;
}

function isIssuer(issued: X509Certificate, other: X509Certificate): boolean {
  try {
    // checkIssued also looks at the issuer's keyUsage, which is a fault of its own.
    return (issued.checkIssued(other) || issued.issuer === other.subject) && issued.verify(other.publicKey);
  } catch {
    return false; // a kind of key that OpenSSL does not know
  }
}

const isSame = (one: X509Certificate, other: X509Certificate): boolean => one.raw.equals(other.raw);
