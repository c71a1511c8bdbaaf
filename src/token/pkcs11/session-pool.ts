import { CkrError, type Handle, type Pkcs11Module, type TokenFacts } from './module.ts';
import { Session } from './session.ts';

/** How long a token that had no more sessions to give is not asked for more, in milliseconds. */
const FULL_MS = 10_000;

/**
 * Sessions of one partition, opened as they are needed up to a limit, used by one operation each. One more, the anchor,
 * stays idle: a token logs its user out when the application's last session closes (PKCS#11 v2.40, section 5.6).
 */
export class SessionPool {
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

  constructor(module: Pkcs11Module, token: Pick<TokenFacts, 'slot' | 'mechanisms'>, limit: number) {
    this.#module = module;
    this.#token = token;
    this.#configured = Math.max(1, limit);
    this.#limit = this.#configured;
  }

  get limit(): number {
    return this.#limit;
  }

  get open(): number {
    return this.#idle.length + this.#busy.size;
  }

  /** Runs `work` on a session of its own. Where a call failed, the session is replaced: the operation may be open in it. */
  async use<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const session = await this.#take();
    try {
      return await work(session);
    } catch (thrown) {
      if (thrown instanceof CkrError) session.tainted = true;
      throw thrown;
    } finally {
      this.#busy.delete(session);
      if (session.tainted || this.#closed) session.close();
      else this.#idle.push(session);
      this.#serveNext();
    }
  }

  /** Runs `work` on a read-write session that takes the place of one of the pool's: tokens limit both kinds together. */
  async useWritable<T>(work: (session: Handle) => Promise<T>): Promise<T> {
    return this.use(async (replaced) => {
      replaced.tainted = true;
      replaced.close();
      const session = this.#module.openSession(this.#token.slot, { writable: true });
      try {
        return await work(session);
      } finally {
        this.#module.closeSession(session);
      }
    });
  }

  /** Closes what is idle; sessions at work close when their operation comes back. */
  close(): void {
    this.#closed = true;
    for (const session of this.#idle.splice(0)) session.close();
    for (const waiter of this.#waiting.splice(0)) waiter.reject(new CkrError('C_OpenSession', 'CKR_SESSION_CLOSED'));
  }

  async #take(): Promise<Session> {
    if (this.#closed) throw new CkrError('C_OpenSession', 'CKR_SESSION_CLOSED');
    if (this.#waiting.length === 0) {
      const session = this.#idle.pop() ?? this.#openOne();
      if (session !== undefined) {
        this.#busy.add(session);
        return session;
      }
    }
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** @returns undefined when the limit is reached. Throws CkrError. */
  #openOne(): Session | undefined {
    if (this.#limit < this.#configured && performance.now() > this.#limitedUntil) this.#limit = this.#configured;
    if (this.open >= this.#limit) return undefined;
    const { slot, mechanisms } = this.#token;
    try {
      return new Session(this.#module, this.#module.openSession(slot, { writable: false }), mechanisms);
    } catch (error) {
      // Somebody else holds sessions of this token: make do with what there is.
      if (error instanceof CkrError && error.ckr === 'CKR_SESSION_COUNT' && this.open > 0) {
        this.#limit = this.open;
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
      const session = this.#idle.pop() ?? this.#openOne();
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
