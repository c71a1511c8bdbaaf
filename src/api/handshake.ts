import type { X509Certificate } from 'node:crypto';
import { createConnection } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';

export interface HandshakeOptions {
  /** A path, or an abstract name with its leading NUL. */
  readonly socketPath: string;
  /** The one name that the certificate must have. */
  readonly host: string;
  /** PEM: trusted, and nothing else. Without it nothing is, and Node does not look into the certificate. */
  readonly ca?: string | Uint8Array;
  /** For the whole of it, in milliseconds. */
  readonly withinMs: number;
}

/** How a client that trusts one CA alone and expects one name sees the server behind a socket. */
export interface Handshake {
  /** The certificate that was served; undefined when there was no handshake. */
  readonly certificate: ServedCertificate | undefined;
  readonly protocol: string | undefined;
  /** Node's code for what is wrong with the certificate; undefined when nothing is. */
  readonly refused: string | undefined;
  /** Why there was no handshake. */
  readonly broken: string | undefined;
  /** Nothing came in time, which on a slow host proves nothing. */
  readonly late: boolean;
  /** How the process ended that read the certificate; undefined when it did not. */
  readonly crashed: string | undefined;
}

export interface ServedCertificate {
  /** In words, e.g. `CN=kms-plugin, key ec prime256v1`. */
  readonly name: string;
  readonly validFrom: string;
  readonly validTo: string;
  readonly subjectAltName: string | undefined;
  readonly fingerprint256: string;
  /** DER of it and of those above it, as they came or as the CA file has them. */
  readonly chain: readonly Uint8Array[];
}

export const NO_HANDSHAKE: Handshake = {
  certificate: undefined,
  protocol: undefined,
  refused: undefined,
  broken: undefined,
  late: false,
  crashed: undefined,
};

/** Never rejects. Some certificates end the process: shakeHandsApart() outlives that. */
export function shakeHands({ socketPath, host, ca, withinMs }: HandshakeOptions): Promise<Handshake> {
  return new Promise((resolve) => {
    const raw = createConnection({ path: socketPath });
    const end = (result: Partial<Handshake>): void => {
      clearTimeout(timer);
      raw.destroy();
      resolve({ ...NO_HANDSHAKE, ...result });
    };
    const late = `no answer within ${Math.round(withinMs / 100) / 10} s`;
    const timer = setTimeout(() => end({ broken: late, late: true }), withinMs);
    raw.on('error', (error) => end({ broken: error.message }));
    try {
      const socket: TLSSocket = connectTls(
        {
          socket: raw,
          servername: host,
          ca: ca === undefined ? [] : Buffer.from(ca),
          ALPNProtocols: ['h2'],
          rejectUnauthorized: false,
          minVersion: 'TLSv1.2',
        },
        () => {
          const error = socket.authorizationError as Error | string | null | undefined;
          end({
            certificate: served(socket.getPeerX509Certificate()),
            protocol: socket.getProtocol() ?? undefined,
            refused: codeOf(error),
            ...(socket.alpnProtocol === 'h2' ? {} : { broken: 'the server does not speak HTTP/2 there' }),
          });
        },
      );
      socket.on('error', (error: Error) => end({ broken: alertOf(error) }));
    } catch (error) {
      end({ broken: (error as Error).message });
    }
  });
}

function served(certificate: X509Certificate | undefined): ServedCertificate | undefined {
  if (certificate === undefined) return undefined;
  const { subject, validFrom, validTo, subjectAltName, fingerprint256, publicKey } = certificate;
  const { namedCurve, modulusLength } = publicKey.asymmetricKeyDetails ?? {};
  const key = ['key', publicKey.asymmetricKeyType, namedCurve ?? modulusLength].filter((part) => part !== undefined);
  const name = `${subject.replaceAll('\n', ', ')}, ${key.join(' ')}`;
  return { name, validFrom, validTo, subjectAltName, fingerprint256, chain: chainOf(certificate) };
}

function chainOf(certificate: X509Certificate): Buffer[] {
  const chain: Buffer[] = [];
  let next: X509Certificate | undefined = certificate;
  while (next !== undefined && !chain.some((der) => next?.raw.equals(der) === true)) {
    chain.push(next.raw);
    next = next.issuerCertificate;
  }
  return chain;
}

/** OpenSSL's own words without its place in the source: `tls alert handshake failure`. */
const alertOf = ({ message }: Error): string => /SSL routines:[^:]*:([^:\n]*)/.exec(message)?.[1] ?? message.trim();

function codeOf(error: Error | string | null | undefined): string | undefined {
  if (error === null || error === undefined) return undefined;
  return typeof error === 'string' ? error : ((error as NodeJS.ErrnoException).code ?? error.message);
}
