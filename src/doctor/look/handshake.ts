import { X509Certificate } from 'node:crypto';
import { createConnection } from 'node:net';
import {
  connect as connectTls,
  createSecureContext,
  type DetailedPeerCertificate,
  type PeerCertificate,
} from 'node:tls';
import { checkIdentity } from '../../config/index.ts';
import { seconds } from '../words.ts';

/** How a client that trusts one CA alone and expects one name sees the server behind a socket. */
export interface Handshake {
  /** The certificate that was served; undefined when there was no handshake. */
  readonly certificate: PeerCertificate | undefined;
  readonly protocol: string | undefined;
  /** Node's code for what is wrong with the certificate; undefined when nothing is. */
  readonly refused: string | undefined;
  /** Why there was no handshake. */
  readonly broken: string | undefined;
}

/** @param socketPath - a path, or an abstract name with its leading NUL. */
export function shakeHands(
  socketPath: string,
  host: string,
  ca: string | Buffer,
  withinMs: number,
): Promise<Handshake> {
  return new Promise((resolve) => {
    const raw = createConnection({ path: socketPath });
    const end = (result: Partial<Handshake>): void => {
      clearTimeout(timer);
      raw.destroy();
      resolve({ certificate: undefined, protocol: undefined, refused: undefined, broken: undefined, ...result });
    };
    const timer = setTimeout(() => end({ broken: `no answer within ${seconds(withinMs)}` }), withinMs);
    raw.on('error', (error) => end({ broken: error.message }));
    try {
      const socket = connectTls(
        {
          socket: raw,
          servername: host,
          secureContext: createSecureContext({ ca, allowPartialTrustChain: true, minVersion: 'TLSv1.2' }),
          checkServerIdentity: checkIdentity,
          ALPNProtocols: ['h2'],
          rejectUnauthorized: false,
        },
        () => {
          const error = socket.authorizationError as Error | string | null | undefined;
          end({
            certificate: socket.getPeerCertificate(true),
            protocol: socket.getProtocol() ?? undefined,
            refused: codeOf(error),
            ...(socket.alpnProtocol === 'h2' ? {} : { broken: 'the server does not speak HTTP/2 there' }),
          });
        },
      );
      socket.on('error', (error: Error) => end({ broken: error.message }));
    } catch (error) {
      end({ broken: (error as Error).message });
    }
  });
}

/** The server's certificate and those above it, as they came or as the CA file has them. */
export function chainOf(certificate: PeerCertificate): X509Certificate[] {
  const chain: X509Certificate[] = [];
  let next = certificate as DetailedPeerCertificate | undefined;
  while (next?.raw !== undefined && !chain.some(({ raw }) => next?.raw.equals(raw) === true)) {
    chain.push(new X509Certificate(next.raw));
    next = next.issuerCertificate;
  }
  return chain;
}

function codeOf(error: Error | string | null | undefined): string | undefined {
  if (error === null || error === undefined) return undefined;
  return typeof error === 'string' ? error : ((error as NodeJS.ErrnoException).code ?? error.message);
}
