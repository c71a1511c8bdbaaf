import type { FailureKind } from '../../errors/index.ts';
import type { KeyHandles } from '../profiles/index.ts';
import { classifyCkr } from '../pkcs11/ckr.ts';
import { CkrError } from '../pkcs11/module.ts';
import type { Session } from '../pkcs11/session.ts';
import type { CryptoRequest } from '../wire/messages.ts';
import { checkValueId } from './key-id.ts';
import { openBody } from './open-scheme.ts';
import type { Partition } from './partition.ts';
import { expectSame, KNOWN_ANSWER_DATA, knownAnswer } from './self-test.ts';

/** How often an operation is tried on a token that is well again, before it is given back as lost. */
const ATTEMPTS = 3;
/** How often a ciphertext must fail between good known answers when the module's code for it may also mean a bad device. */
const AMBIGUOUS_ROUNDS = 3;

/** Why an operation failed. `lost`: not the request's fault; worth another try when the token is ready anew. */
export class OperationError extends Error {
  readonly kind: FailureKind;
  readonly ckr: string | undefined;
  readonly lost: boolean;

  constructor(kind: FailureKind, message: string, options: { ckr?: string; lost?: boolean } = {}) {
    super(message);
    this.name = 'OperationError';
    this.kind = kind;
    this.ckr = options.ckr;
    this.lost = options.lost ?? false;
  }
}

/** Encrypt and decrypt on a connected partition, and the judgement of what failed. */
export class Operations {
  readonly #partition: Partition;

  constructor(partition: Partition) {
    this.#partition = partition;
  }

  /** @returns the body that goes behind the header. Throws OperationError. */
  async seal(request: CryptoRequest): Promise<Buffer> {
    const { handles } = this.#key(request.keyId);
    const { pool, profile } = this.#partition;
    return this.#attempt(request.keyId, handles, () =>
      pool.use(async (session) => {
        await this.#verify(session, request.keyId, handles);
        return profile.seal(session, handles, request.associatedData, request.data);
      }),
    );
  }

  /** @returns the plaintext; the caller zeroes it. Throws OperationError, 'not-authentic' only when that is proven. */
  async open(request: CryptoRequest): Promise<Buffer> {
    const { handles, provable } = this.#key(request.keyId);
    const { pool } = this.#partition;
    return this.#attempt(
      request.keyId,
      handles,
      () => pool.use((session) => openBody(session, request.scheme, handles, request.associatedData, request.data)),
      (error) => this.#judge(request, handles, provable, error),
    );
  }

  /** A known answer under the key that encrypts; without any key, a look at the session. Throws CkrError. */
  async probe(): Promise<void> {
    const { keys, pool, profile } = this.#partition;
    const usable = keys.find((key) => key.problems.length === 0 && key.sealProblems.length === 0);
    const id = usable?.ids[0]?.id;
    const found = id === undefined ? undefined : this.#partition.handles(id);
    if (found === undefined) this.#partition.checkSession();
    else await knownAnswer(pool, profile, found.handles, 32);
  }

  #key(keyId: string): { readonly handles: KeyHandles; readonly provable: boolean } {
    const found = this.#partition.handles(keyId);
    if (found === undefined) {
      throw new OperationError('key-missing', `${this.#where()} holds no listed key with id ${keyId}`);
    }
    return found;
  }

  /**
   * @param judge decides about errors that may be the ciphertext's fault: it returns a plaintext after all, throws an
   * OperationError, or returns undefined when the token is to blame.
   */
  async #attempt(
    keyId: string,
    handles: KeyHandles,
    work: () => Promise<Buffer>,
    judge?: (error: CkrError) => Promise<Buffer | undefined>,
  ): Promise<Buffer> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (thrown) {
        if (!(thrown instanceof CkrError)) throw thrown;
        const kind = classifyCkr(thrown.ckr);
        const facts = { ckr: thrown.ckr };
        if (kind === 'limit') {
          throw new OperationError(
            'module-limit',
            `${this.#where()}: ${thrown.message}: the value is too long for this HSM; set token.profile to the profile of this HSM, or lower limits.value`,
            facts,
          );
        }
        if (kind === 'unable') {
          throw new OperationError(
            'key-unable',
            `${this.#where()}: ${thrown.message}: key ${keyId} cannot do this; look at \`kms-plugin keys inspect\``,
            facts,
          );
        }
        if (kind === 'misuse') {
          throw new OperationError(
            'module-misuse',
            `${this.#where()}: ${thrown.message}: a fault of this plugin; please report it`,
            facts,
          );
        }
        if (judge !== undefined && (kind === 'tag' || kind === 'ambiguous')) {
          const plaintext = await judge(thrown);
          if (plaintext !== undefined) return plaintext;
        }
        if (attempt >= ATTEMPTS || !(await this.#isWell(keyId, handles))) {
          throw new OperationError('token-away', `${this.#where()}: ${thrown.message}`, { ...facts, lost: true });
        }
      }
    }
  }

  /** Whether the token does its work with this key at this moment, and the key is still the one that the id names. */
  async #isWell(keyId: string, handles: KeyHandles): Promise<boolean> {
    const { pool, profile } = this.#partition;
    try {
      await pool.use((session) => this.#verify(session, keyId, handles, true));
      await knownAnswer(pool, profile, handles, 32);
      return true;
    } catch (error) {
      if (error instanceof CkrError) return false;
      throw error;
    }
  }

  /**
   * Computes the key's id again on a session that has not seen it: after a loss a handle may stand for another object, and
   * what that encrypted under this id would be lost. Throws CkrError.
   */
  async #verify(session: Session, keyId: string, handles: KeyHandles, again = false): Promise<void> {
    if (!again && session.verifiedKeys.has(keyId)) return;
    const found = this.#partition.handles(keyId);
    if (found?.provable === true) {
      const id = await this.#computeId(session, keyId, handles);
      if (id !== keyId) throw new CkrError('key id check', 'CKR_OBJECT_HANDLE_INVALID');
    }
    session.verifiedKeys.add(keyId);
  }

  /** The id as its kind demands it: of the AES key alone or, for scheme 3, of the pair. */
  async #computeId(session: Session, keyId: string, handles: KeyHandles): Promise<string | undefined> {
    const { mechanisms } = this.#partition.token;
    const alone = await checkValueId(session, { aes: handles.aes, mac: undefined }, mechanisms);
    if (alone === keyId || handles.mac === undefined) return alone;
    return checkValueId(session, handles, mechanisms);
  }

  /**
   * A ciphertext failed: is it the ciphertext, or the token? Not authentic only when the module says so, or fails it again
   * and again between good known answers at least as long, on a session on which the key's id came out right.
   *
   * @returns the plaintext when it opens after all; undefined when the token is to blame. Throws OperationError.
   */
  async #judge(
    request: CryptoRequest,
    handles: KeyHandles,
    provable: boolean,
    first: CkrError,
  ): Promise<Buffer | undefined> {
    const { pool, profile, keys } = this.#partition;
    const key = keys.find((candidate) => candidate.ids.some(({ id }) => id === request.keyId));
    if (!provable || key === undefined || key.sealProblems.length > 0) {
      if (!(await this.#isWell(request.keyId, handles))) return undefined;
      throw new OperationError(
        'unproven',
        `${this.#where()}: ${first.message} for a ciphertext of key ${request.keyId}: the key is another than the one that made it, or the ciphertext was changed; with this key it cannot be told which`,
        { ckr: first.ckr },
      );
    }
    try {
      return await pool.use(async (session) => {
        session.tainted = true;
        if ((await this.#computeId(session, request.keyId, handles)) !== request.keyId) return undefined;
        const known = await knownAnswerOn(session, this.#partition, handles, request.data.length);
        const rounds = classifyCkr(first.ckr) === 'ambiguous' ? AMBIGUOUS_ROUNDS : 1;
        for (let round = 0; round < rounds; round++) {
          try {
            return await openBody(session, request.scheme, handles, request.associatedData, request.data);
          } catch (thrown) {
            if (!(thrown instanceof CkrError)) throw thrown;
            const kind = classifyCkr(thrown.ckr);
            if (kind !== 'tag' && !(kind === 'ambiguous' && thrown.ckr === first.ckr)) return undefined;
          }
          const again = await openBody(session, profile.scheme, handles, KNOWN_ANSWER_DATA, known.body);
          expectSame(again, known.value);
        }
        throw new OperationError(
          'not-authentic',
          `the ciphertext or its header was changed: ${first.message} for key ${request.keyId}, while known answers open`,
          { ckr: first.ckr },
        );
      });
    } catch (thrown) {
      if (thrown instanceof CkrError) return undefined;
      throw thrown;
    }
  }

  #where(): string {
    const { label, serial } = this.#partition.token;
    return `partition "${label}" (serial ${serial})`;
  }
}

async function knownAnswerOn(
  session: Session,
  partition: Partition,
  handles: KeyHandles,
  bytes: number,
): Promise<{ readonly body: Buffer; readonly value: Buffer }> {
  const value = Buffer.alloc(bytes, 0x6b);
  const body = await partition.profile.seal(session, handles, KNOWN_ANSWER_DATA, value);
  expectSame(await openBody(session, partition.profile.scheme, handles, KNOWN_ANSWER_DATA, body), value);
  return { body, value };
}
