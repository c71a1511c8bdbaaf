import { classifyCkr, type CkrClass } from '../pkcs11/ckr.ts';
import { CkrError } from '../pkcs11/module.ts';
import type { Session } from '../pkcs11/session.ts';
import { IvError, knownAnswerProfile, type KeyHandles, type Profile } from '../profiles/index.ts';
import { monotonicMs } from '../wire/clock.ts';
import type { CryptoRequest } from '../wire/messages.ts';
import type { IvTally } from './iv-tally.ts';
import { judge, openSurely, PROOF, type Case, type ProofRules } from './judge.ts';
import { checkValueId } from './key-id.ts';
import { checkKnownAnswer, makeKnownAnswer, type Sealing } from './known-answer.ts';
import { isWrongTag, openBody } from './open-scheme.ts';
import { OperationError, refuseExpired } from './operation-error.ts';
import type { Partition } from './partition.ts';
import { Turns } from './turns.ts';

/** How often an operation is tried on a token that is well again, before it is given back as lost. */
const ATTEMPTS = 3;
/** A token that was seen in trouble is not believed about wrong tags for so long, in milliseconds. */
const DISTRUST_MS = 5_000;
const PROBE_BYTES = 32;
const MISFIT = 'a value does not fit its data key';
/** The part of the sessions that judging may take: whoever sends forged ciphertexts waits for others who do, and nobody else. */
const JUDGING_PART = 1 / 4;

export interface OperationsOptions {
  /** The token was lost, or could not be reached, a moment ago. */
  readonly afterLoss: boolean;
  /** Told of the IVs of ours that the plugin process does not know of. */
  readonly ivs: IvTally;
  /** Less than what a proof takes, for a test. */
  readonly proof?: ProofRules;
  /** `monotonicMs`, or a test's clock. */
  readonly now?: () => number;
}

/** What operations need of a partition. */
type Ground = Pick<Partition, 'keys' | 'handles' | 'profile' | 'checkSession'> & {
  readonly pool: Pick<Partition['pool'], 'use' | 'limit'>;
  readonly token: Pick<Partition['token'], 'label' | 'serial' | 'mechanisms'>;
};

/** Encrypt and decrypt on a connected partition, and the judgement of what failed. */
export class Operations {
  readonly #partition: Ground;
  readonly #ivs: IvTally;
  readonly #proof: ProofRules;
  readonly #now: () => number;
  readonly #judging = new Turns(() => Math.floor(this.#partition.pool.limit * JUDGING_PART));
  #distrustUntil = 0;

  constructor(partition: Ground, { afterLoss, ivs, proof = PROOF, now = monotonicMs }: OperationsOptions) {
    this.#partition = partition;
    this.#ivs = ivs;
    this.#proof = proof;
    this.#now = now;
    if (afterLoss) this.distrust();
  }

  /** Something of this token failed: for 5 s nothing that it says of a tag is believed. */
  distrust(): void {
    this.#distrustUntil = this.#now() + DISTRUST_MS;
  }

  /** @returns the body that goes behind the header. Throws OperationError. */
  async seal(request: CryptoRequest): Promise<Buffer> {
    const { handles } = this.#key(request.keyId);
    // What only memory or `key_id` says of a key is never written.
    const kinds = this.#partition.keys.flatMap(({ ids }) => ids.filter(({ id }) => id === request.keyId));
    if (kinds.some(({ kind }) => kind === 'assumed')) {
      throw new OperationError('key-missing', `${this.#where()} cannot compute key id ${request.keyId} any more`);
    }
    const { pool, profile } = this.#partition;
    return this.#attempt(request, handles, (attempt) =>
      pool.use(async (session) => {
        refuseExpired(request);
        await this.#verify(session, request.keyId, handles);
        if (attempt > 1 && profile.ivBy === 'caller') this.#ivs.add(request.keyId);
        return profile.seal(session, handles, request.associatedData, request.data);
      }),
    );
  }

  /** @returns the plaintext; the caller zeroes it. Throws OperationError, 'not-authentic' only when that is proven. */
  async open(request: CryptoRequest): Promise<Buffer> {
    const { handles, provable } = this.#key(request.keyId);
    const { pool } = this.#partition;
    return this.#attempt(
      request,
      handles,
      () =>
        pool.use((session) => {
          refuseExpired(request);
          return openBody(session, request.scheme, handles, request.associatedData, request.data);
        }),
      (error, attempt) => this.#judge(request, handles, provable, error, attempt),
    );
  }

  /**
   * Opens again what does not fit something outside: a data key under which a value's tag is wrong. Many times, on two
   * sessions, between known answers.
   * @returns the plaintext, which the caller zeroes; whatever else is wrong then is not this token's doing.
   * Throws OperationError, 'unproven' where nothing can be proven under this key.
   */
  async openSurely(request: CryptoRequest): Promise<Buffer> {
    const { keyId } = request;
    const { handles, provable } = this.#key(keyId);
    return this.#judging.run(async () => {
      const subject = provable ? await this.#case(request, handles) : undefined;
      if (subject === undefined) throw this.#notProven(MISFIT, keyId);
      const opened = await this.#onTwoSessions(subject);
      if (opened === undefined) {
        this.distrust();
        throw this.#away('a data key did not open to the same bytes every time');
      }
      if (this.#isTrusted) return opened;
      opened.fill(0);
      throw this.#notProven(MISFIT, keyId);
    });
  }

  /** The first session is closed after its half of the rounds: the second one is another in any case. */
  async #onTwoSessions(subject: Case): Promise<Buffer | undefined> {
    let used: Session | undefined;
    const half = (before: Buffer | undefined): Promise<Buffer | undefined> =>
      this.#onSession(subject.request, (session) => {
        // A token with one session that must stay has no other to say it again.
        if (session === used) throw this.#notProven(MISFIT, subject.request.keyId);
        used = session;
        return openSurely(session, subject, this.#proof, before);
      });
    const first = await half(undefined);
    if (first === undefined) return undefined;
    let both: Buffer | undefined;
    try {
      both = await half(first);
    } finally {
      if (both === undefined) first.fill(0);
    }
    return both;
  }

  /** A known answer under the key that encrypts; without any key, a look at the session. Throws CkrError, IvError. */
  async probe(): Promise<void> {
    const usable = this.#partition.keys.find((key) => key.problems.length === 0 && key.sealProblems.length === 0);
    const id = usable?.ids[0]?.id;
    const found = id === undefined ? undefined : this.#partition.handles(id);
    try {
      if (id === undefined || found === undefined) this.#partition.checkSession();
      else await this.#knownAnswer(id, found.handles);
    } catch (error) {
      this.distrust();
      throw error;
    }
  }

  #key(keyId: string): { readonly handles: KeyHandles; readonly provable: boolean } {
    const found = this.#partition.handles(keyId);
    if (found === undefined) {
      throw new OperationError('key-missing', `${this.#where()} holds no listed key with id ${keyId}`);
    }
    return found;
  }

  /**
   * @param judgeIt - decides about errors that may be the ciphertext's fault: it returns a plaintext after all, throws an
   * OperationError, or returns undefined when the token is to blame.
   */
  async #attempt(
    request: CryptoRequest,
    handles: KeyHandles,
    work: (attempt: number) => Promise<Buffer>,
    judgeIt?: (error: CkrError, attempt: number) => Promise<Buffer | undefined>,
  ): Promise<Buffer> {
    const { keyId, scheme } = request;
    for (let attempt = 1; ; attempt++) {
      try {
        const result = await work(attempt);
        if (attempt > 1) this.distrust();
        return result;
      } catch (thrown) {
        if (thrown instanceof IvError) throw this.#refusedIv(thrown, keyId);
        if (!(thrown instanceof CkrError)) throw thrown;
        if (judgeIt !== undefined && isWrongTag(thrown, scheme)) {
          const plaintext = await judgeIt(thrown, attempt);
          if (plaintext !== undefined) return plaintext;
        } else {
          const final = this.#finalError(thrown, classifyCkr(thrown.ckr), keyId);
          // No answer is believed at its first word, and none of a token that is not well: one that goes down may give any.
          if (final === undefined) this.distrust();
          else if (attempt > 1 && (await this.#isWell(keyId, handles))) throw final;
        }
        if (attempt >= ATTEMPTS || !(await this.#isWell(keyId, handles))) throw this.#away(thrown.message, thrown.ckr);
      }
    }
  }

  #away(what: string, ckr?: string): OperationError {
    return new OperationError('token-away', `${this.#where()}: ${what}`, {
      lost: true,
      ...(ckr === undefined ? {} : { ckr }),
    });
  }

  /** What trying again does not change on a token that is well; undefined for the rest. */
  #finalError(error: CkrError, kind: CkrClass, keyId: string): OperationError | undefined {
    const facts = { ckr: error.ckr };
    const what = `${this.#where()}: ${error.message}`;
    switch (kind) {
      case 'limit':
        return new OperationError(
          'module-limit',
          `${what}: the value is too long for this HSM; set token.profile to the profile of this HSM, or lower limits.value`,
          facts,
        );
      case 'unable':
        return new OperationError(
          'key-unable',
          `${what}: key ${keyId} cannot do this; look at \`kms-plugin keys inspect\``,
          facts,
        );
      case 'misuse':
        return new OperationError('module-misuse', `${what}: a fault of this plugin; please report it`, facts);
      case 'tag':
      case 'ambiguous':
      case 'lost':
        return undefined;
    }
  }

  #refusedIv(error: IvError, keyId: string): OperationError {
    return new OperationError(
      'iv-refused',
      `${this.#where()}: ${error.message} under key ${keyId}; the ciphertext was thrown away. Set token.profile to the profile of this HSM`,
    );
  }

  /** Whether the token does its work at this moment, and the key is still the one that the id names. */
  async #isWell(keyId: string, handles: KeyHandles): Promise<boolean> {
    try {
      if (this.#canSeal(keyId)) {
        await this.#partition.pool.use((session) => this.#verify(session, keyId, handles, true));
        await this.#knownAnswer(keyId, handles);
      } else {
        await this.probe();
      }
      return true;
    } catch (error) {
      if (!(error instanceof CkrError) && !(error instanceof IvError)) throw error;
      this.distrust();
      return false;
    }
  }

  #knownAnswer(keyId: string, handles: KeyHandles): Promise<void> {
    const { pool, profile } = this.#partition;
    const sealing = this.#sealing(keyId, handles, profile);
    return pool.use(async (session) => {
      const known = await makeKnownAnswer(session, sealing, PROBE_BYTES);
      await checkKnownAnswer(session, handles, known);
    });
  }

  #sealing(keyId: string, key: KeyHandles, profile: Profile): Sealing {
    return { profile, key, countIv: () => this.#ivs.add(keyId) };
  }

  #canSeal(keyId: string): boolean {
    const key = this.#partition.keys.find((candidate) => candidate.ids.some(({ id }) => id === keyId));
    return key?.sealProblems.length === 0;
  }

  get #isTrusted(): boolean {
    return this.#now() >= this.#distrustUntil;
  }

  /**
   * Computes the key's id again on a session that has not seen it: after a loss a handle may stand for another object, and
   * what that encrypted under this id would be lost. Throws CkrError.
   */
  async #verify(session: Session, keyId: string, handles: KeyHandles, again = false): Promise<void> {
    if (!again && session.verifiedKeys.has(keyId)) return;
    const found = this.#partition.handles(keyId);
    if (found?.provable === true && !(await this.#hasId(session, keyId, handles))) {
      throw new CkrError('key id check', 'CKR_OBJECT_HANDLE_INVALID');
    }
    session.verifiedKeys.add(keyId);
  }

  /** The id as its kind demands it: of the AES key alone or, for scheme 3, of the pair. Throws CkrError. */
  async #hasId(session: Session, keyId: string, handles: KeyHandles): Promise<boolean> {
    const { mechanisms } = this.#partition.token;
    const alone = await checkValueId(session, { aes: handles.aes, mac: undefined }, mechanisms);
    if (alone === keyId || handles.mac === undefined) return alone === keyId;
    return (await checkValueId(session, handles, mechanisms)) === keyId;
  }

  /**
   * What a proof about this ciphertext needs; undefined where there is none: no known answer under this key says anything of
   * this scheme, or the id does not name the key that checks the ciphertext. Under scheme 3 that is the second one, which an
   * id of the AES key alone says nothing of.
   */
  async #case(request: CryptoRequest, key: KeyHandles): Promise<Case | undefined> {
    const { keyId, scheme } = request;
    const profile = knownAnswerProfile(this.#partition.profile, scheme);
    if (profile === undefined || !this.#canSeal(keyId)) return undefined;
    const alone = { aes: key.aes, mac: undefined };
    if (scheme === 3 && (await this.#onSession(request, (session) => this.#hasId(session, keyId, alone)))) {
      return undefined;
    }
    return {
      request,
      sealing: this.#sealing(keyId, key, profile),
      checkId: (session) => this.#hasId(session, keyId, key),
    };
  }

  /** @returns the plaintext when it opens after all; undefined when the token is to blame. Throws OperationError. */
  async #judge(
    request: CryptoRequest,
    handles: KeyHandles,
    provable: boolean,
    first: CkrError,
    attempt: number,
  ): Promise<Buffer | undefined> {
    const { keyId } = request;
    const subject = provable ? await this.#case(request, handles) : undefined;
    if (subject === undefined) {
      if (attempt < ATTEMPTS || !(await this.#isWell(keyId, handles))) return undefined;
      throw this.#notProven(first.message, keyId, first.ckr);
    }
    const verdict = await this.#judging.run(() =>
      this.#onSession(request, (session) => judge(session, subject, this.#proof)),
    );
    switch (verdict?.kind) {
      case 'opens':
        this.distrust();
        return verdict.plaintext;
      case undefined:
      case 'token':
        this.distrust();
        return undefined;
      case 'forged':
        if (!this.#isTrusted) throw this.#notProven(first.message, keyId, first.ckr);
        throw new OperationError(
          'not-authentic',
          `the ciphertext or its header was changed: ${first.message} for key ${keyId}, while known answers open`,
          { ckr: first.ckr },
        );
    }
  }

  /** @returns undefined where the token failed. Throws OperationError 'deadline' when nobody waits any more. */
  async #onSession<T>(request: CryptoRequest, work: (session: Session) => Promise<T>): Promise<T | undefined> {
    refuseExpired(request);
    try {
      return await this.#partition.pool.use(work);
    } catch (error) {
      if (error instanceof CkrError) return undefined;
      throw error;
    }
  }

  /** A ciphertext failed on a token that is well, and it is not proven that the ciphertext is at fault. */
  #notProven(what: string, keyId: string, ckr?: string): OperationError {
    const facts = ckr === undefined ? {} : { ckr };
    if (!this.#isTrusted) {
      return new OperationError(
        'token-away',
        `${this.#where()}: ${what} for a ciphertext of key ${keyId}; the token failed within the last ${DISTRUST_MS / 1000} s, and nothing that it says of a ciphertext is believed yet. Try again`,
        facts,
      );
    }
    return new OperationError(
      'unproven',
      `${this.#where()}: ${what} for a ciphertext of key ${keyId}: the key is another than the one that made it, or the ciphertext was changed; with this key and this HSM it cannot be told which`,
      facts,
    );
  }

  #where(): string {
    const { label, serial } = this.#partition.token;
    return `partition "${label}" (serial ${serial})`;
  }
}
