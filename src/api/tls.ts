import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Socket } from 'node:net';
import tls from 'node:tls';
import type { ListenerTls } from '../config/index.ts';
import type { Log } from '../log/index.ts';

/** A certificate chain with its private key, found to fit each other. */
export interface Certificate {
  readonly chain: Buffer;
  /** Zeroed when the certificate is used or dropped. */
  readonly privateKey: Buffer;
  readonly expires: Date;
}

/** The accepted socket beneath a TLS socket, which Node shows in a private field alone. */
export function socketBeneath(secure: Socket): Socket | undefined {
  return (secure as Socket & { readonly _parent?: Socket })._parent;
}

/** @throws Error when Node is not as `socketBeneath` needs it. */
export function checkTls(): void {
  const socket = new Socket();
  const secure = new tls.TLSSocket(socket);
  const isShown = socketBeneath(secure) === socket;
  secure.destroy();
  if (!isShown)
    throw new Error(
      'this release of Node does not show the socket beneath a TLS socket: use the one that comes with it',
    );
}

/** Time for a TLS handshake, in milliseconds. */
const HANDSHAKE_MS = 10_000;

const MIN_VERSION = 'TLSv1.2';

/**
 * Reads a listener's certificate chain and private key (PEM).
 * @throws Error that names the file
 */
export async function loadCertificate(files: ListenerTls): Promise<Certificate> {
  const chain = await read('certificate', files.certificateFile);
  const privateKey = await read('private key', files.privateKeyFile);
  try {
    tls.createSecureContext({ cert: chain, key: privateKey, minVersion: MIN_VERSION });
    return { chain, privateKey, expires: new X509Certificate(chain).validToDate };
  } catch (error) {
    privateKey.fill(0);
    throw new Error(
      `the certificate ${files.certificateFile} and the private key ${files.privateKeyFile} cannot be used together: ${(error as Error).message}`,
      { cause: error },
    );
  }
}

async function read(what: string, file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    throw new Error(`cannot read the ${what} ${file}: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * Does the TLS of one listener: TLS 1.2 or newer, ALPN h2, no client certificates (CredHub sends none). One secure
 * context serves all connections, until the next certificate comes; those that are open keep theirs.
 */
export class TlsGate {
  readonly #server: tls.Server;
  #expires: Date;

  constructor(certificate: Certificate, listener: string, log: Log, established: (socket: tls.TLSSocket) => void) {
    this.#server = tls.createServer({ ALPNProtocols: ['h2'], handshakeTimeout: HANDSHAKE_MS });
    this.#expires = certificate.expires;
    this.use(certificate);
    this.#server.on('secureConnection', (socket) => {
      if (socket.alpnProtocol === 'h2') {
        established(socket);
        return;
      }
      log.warn('a client does not speak HTTP/2 (ALPN h2), which gRPC needs: connection closed', { listener });
      socket.on('error', () => undefined).destroy();
    });
    this.#server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
      socket.destroy();
      // A client that just hangs up is no news: another plugin that starts looks whether we are alive like this.
      const level = error.code === 'ECONNRESET' ? 'debug' : 'warn';
      log[level](`TLS handshake with a client failed: ${error.message}`, { listener, kind: 'tls-handshake' });
    });
  }

  get expires(): Date {
    return this.#expires;
  }

  /** For new connections; zeroes the private key's buffer. */
  use(certificate: Certificate): void {
    this.#server.setSecureContext({
      cert: certificate.chain,
      key: certificate.privateKey,
      minVersion: MIN_VERSION,
    });
    certificate.privateKey.fill(0);
    this.#expires = certificate.expires;
  }

  /** Begins the handshake on an accepted socket. */
  accept(socket: Socket): void {
    this.#server.emit('connection', socket);
  }
}
