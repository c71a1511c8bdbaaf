import type { ServerHttp2Session } from 'node:http2';

/** For so long a client must have opened no call, in milliseconds: callers that had an answer just before open their next in less. */
const QUIET_MS = 50;

/** Answers are kept back no longer than that, in milliseconds. */
const LONGEST_MS = 1_000;

/**
 * The end of one connection, as its client sees it. nghttp2 takes no stream that comes after its GOAWAY, whatever last stream
 * that names, and a client opens calls until it has read that. So for a moment answers are kept back: callers who wait for one
 * open no call. When a ping shows that no more come, GOAWAY leaves, and the answers after it.
 */
export class Farewell {
  readonly #session: ServerHttp2Session;
  readonly #opened: () => number;
  readonly #end: () => void;
  #kept: (() => void)[] | undefined = [];
  #openedBefore = -1;

  /**
   * @param opened - how many calls the client has opened so far.
   * @param end - has the session send GOAWAY, and close when its calls are answered.
   */
  constructor(session: ServerHttp2Session, opened: () => number, end: () => void) {
    this.#session = session;
    this.#opened = opened;
    this.#end = end;
    setTimeout(() => this.#say(), LONGEST_MS).unref();
    this.#ping();
  }

  /** Gives an answer: later while answers are kept back, else at once. */
  answer(give: () => void): void {
    if (this.#kept === undefined) give();
    else this.#kept.push(give);
  }

  #ping(): void {
    if (this.#kept === undefined) return;
    const { destroyed, closed } = this.#session;
    if (destroyed || closed || !this.#session.ping(() => this.#acknowledged())) this.#say();
  }

  /** The first time it shows that the client has read every answer that left; the next, what it has opened since. */
  #acknowledged(): void {
    if (this.#opened() === this.#openedBefore) {
      this.#say();
      return;
    }
    this.#openedBefore = this.#opened();
    setTimeout(() => this.#ping(), QUIET_MS).unref();
  }

  #say(): void {
    const kept = this.#kept;
    if (kept === undefined) return;
    this.#kept = undefined;
    this.#end();
    for (const give of kept) give();
  }
}
