import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** A request and its answer on a connection; the last one, when it has had several. */
interface Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/**
 * The connections of an HTTP server, at most so many. A new one always gets in: the one that has been without a finished
 * exchange for longest goes, since anybody on the machine can open connections and leave them, and a probe that finds no
 * place would have the service restarted. One whose whole request is at work is not among them: it ends by itself.
 */
export class Places {
  readonly #most: number;
  /** In the order of their accept, or of the last exchange that was finished. */
  readonly #open = new Map<Socket, Exchange | undefined>();

  constructor(most: number) {
    this.#most = most;
  }

  enter(socket: Socket): void {
    if (this.#open.size >= this.#most) {
      const leaving = this.#longestUnfinished();
      if (leaving === undefined) {
        socket.destroy();
        return;
      }
      this.#open.delete(leaving);
      leaving.destroy();
    }
    this.#open.set(socket, undefined);
    socket.once('close', () => this.#open.delete(socket));
  }

  begin(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    if (this.#open.has(socket)) this.#open.set(socket, { request, response });
    response.once('finish', () => {
      if (this.#open.delete(socket)) this.#open.set(socket, undefined);
    });
  }

  #longestUnfinished(): Socket | undefined {
    for (const [socket, exchange] of this.#open) if (!isAtWork(exchange)) return socket;
    return undefined;
  }
}

/** The request is here whole, and its answer not written yet. */
function isAtWork(exchange: Exchange | undefined): boolean {
  return exchange !== undefined && exchange.request.complete && !exchange.response.writableEnded;
}
