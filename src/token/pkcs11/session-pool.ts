import { CkrError, type Handle, type Pkcs11Module, type TokenFacts } from './module.ts';
import { Session } from './session.ts';

/** How long a token that had no more sessions to give is not asked for more, in milliseconds. */
const FULL_MS = 10_000;

/** Where an operation gets a session of its own. */
export interface SessionPool {
  /** Runs `work` on a session of its own. Where a call failed, the session is replaced: the operation may be open in it. */
  use<T>(work: (session: Session) => Promise<T>): Promise<T>;
}

/**
 * Sessions of one partition, opened as they are needed up to a limit, used by one operation each. One more, the anchor,
 * stays idle: a token logs its user out when the application's last session closes (PKCS#11 v2.40, section 5.6).
 *
 * Where the token has no other session to give, the anchor does the work, one operation after the other. It is not replaced
 * when one fails, since that would log out: by the standard a failed operation is over (section 5.2), and where a module
 * leaves it open, the next Init says CKR_OPERATION_ACTIVE and the whole connection is made anew.
 */
export class Sessions implements SessionPool {
  /** Keeps the login; nobody else uses it unless it is `alone`. */
  readonly anchor: Session;
  readonly #module: Pkcs11Module;
  readonly #token: Pick<TokenFacts, 'slot' | 'mechanisms'>;
  readonly #idle: Session[] = [];
  readonly #waiting: { resolve: (session: Session) => void; reject: (error: Error) => void }[] = [];
  readonly #busy = new Set<Session>();
  readonly #configured: number;
  /** Fewer than configured while other programs hold sessions of this token. */
  #limit: number;
  #limitedUntil = 0;
  #closed = false;

  /**
   * Opens the anchor and one more, so that a token without room for that shows itself before anybody logs in. An anchor that
   * does the work may write, if that is allowed: a session to make a key on would need its place.
   *
   * @param limit - sessions at work at once.
   * Throws CkrError.
   */
  constructor(module: Pkcs11Module, token: Pick<TokenFacts, 'slot' | 'mechanisms' | 'maxSessions'>, limit: number) {
    this.#module = module;
    this.#token = token;
    // The anchor is one of the token's sessions, and another program may want one, too.
    this.#configured = Math.max(0, Math.min(limit, (token.maxSessions ?? Infinity) - 1));
    this.#limit = this.#configured;
    const anchor = this.alone ? this.#openAlone() : this.#open({ writable: false });
    try {
      const first = this.#openOne();
      if (first !== undefined) this.#idle.push(first);
    } catch (error) {
      anchor.close();
      throw error;
    }
    this.anchor = anchor;
    if (!this.alone || anchor.writable || this.#configured === 0) return;
    anchor.close();
    this.anchor = this.#openAlone();
  }

  /** Sessions that may be at work at once. */
  get limit(): number {
    return Math.max(1, this.#limit);
  }

  /** The anchor is the only session. */
  get alone(): boolean {
    return this.#limit === 0;
  }

  get open(): number {
    return this.#idle.length + this.#busy.size;
  }

  async use<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const session = await this.#take();
    try {
      return await work(session);
    } catch (thrown) {
      if (thrown instanceof CkrError) session.tainted = true;
      throw thrown;
    } finally {
      this.#busy.delete(session);
      if (this.#closed || (session.tainted && session !== this.anchor)) session.close();
      else if (session !== this.anchor) this.#idle.push(session);
      this.#serveNext();
    }
  }

  /** Runs `work` on a read-write session that takes the place of one of the pool's: tokens limit both kinds together. */
  async useWritable<T>(work: (session: Handle) => Promise<T>): Promise<T> {
    return this.use(async (replaced) => {
      if (replaced.writable || replaced === this.anchor) return work(replaced.handle);
      replaced.tainted = true;
      replaced.close();
      const session = this.#open({ writable: true });
      try {
        return await work(session.handle);
      } finally {
        session.close();
      }
    });
  }

  /** Closes what is idle; sessions at work close when their operation comes back. */
  close(): void {
    this.#closed = true;
    for (const session of this.#idle.splice(0)) session.close();
    if (!this.#busy.has(this.anchor)) this.anchor.close();
    for (const waiter of this.#waiting.splice(0)) waiter.reject(new CkrError('C_OpenSession', 'CKR_SESSION_CLOSED'));
  }

  async #take(): Promise<Session> {
    if (this.#closed) throw new CkrError('C_OpenSession', 'CKR_SESSION_CLOSED');
    if (this.#waiting.length === 0) {
      const session = this.#next();
      if (session !== undefined) {
        this.#busy.add(session);
        return session;
      }
    }
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Sessions that are open beside the anchor. */
  get #others(): number {
    return this.open - Number(this.#busy.has(this.anchor));
  }

  #next(): Session | undefined {
    const session = this.#idle.pop() ?? this.#openOne();
    return session ?? (this.alone && !this.#busy.has(this.anchor) ? this.anchor : undefined);
  }

  #open(wanted: { readonly writable: boolean }): Session {
    const { slot, mechanisms } = this.#token;
    return new Session(this.#module, this.#module.openSession(slot, wanted), mechanisms);
  }

  /** One that writes; one that only reads where the token is write-protected. */
  #openAlone(): Session {
    try {
      return this.#open({ writable: true });
    } catch {
      return this.#open({ writable: false });
    }
  }

  /** @returns undefined when the limit is reached. Throws CkrError. */
  #openOne(): Session | undefined {
    if (this.#limit < this.#configured && performance.now() > this.#limitedUntil) this.#limit = this.#configured;
    if (this.#others >= this.#limit) return undefined;
    try {
      return this.#open({ writable: false });
    } catch (error) {
      // Somebody else holds sessions of this token: make do with what there is.
      if (error instanceof CkrError && error.ckr === 'CKR_SESSION_COUNT') {
        this.#limit = this.#others;
        this.#limitedUntil = performance.now() + FULL_MS;
        return undefined;
      }
      throw error;
    }
  }

  #serveNext(): void {
    const waiter = this.#waiting.shift();
    if (waiter === undefined) return;
    try {
      const session = this.#next();
      if (session === undefined) {
        this.#waiting.unshift(waiter);
        return;
      }
      this.#busy.add(session);
      waiter.resolve(session);
    } catch (error) {
      waiter.reject(error as Error);
      this.#serveNext();
    }
  }
}
