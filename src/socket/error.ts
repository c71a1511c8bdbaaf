/**
 * Why a socket cannot be had. 'in-use': a live process answers there. 'not-a-socket': something else has the name.
 * 'no-directory': its directory is missing. 'locked': another process looks at the sockets of this directory all the time.
 * 'failed': the system refused.
 */
export type SocketTrouble = 'in-use' | 'not-a-socket' | 'no-directory' | 'locked' | 'failed';

/** A socket that cannot be claimed. `message` is for operators: what, why, and what to do. */
export class SocketError extends Error {
  readonly trouble: SocketTrouble;
  /** The socket's path, or `unix:///@name`. */
  readonly endpoint: string;

  constructor(trouble: SocketTrouble, endpoint: string, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'SocketError';
    this.trouble = trouble;
    this.endpoint = endpoint;
  }
}
