import { classifyCkr, type CkrClass } from '../pkcs11/ckr.ts';
import { CkrError } from '../pkcs11/module.ts';
import type { Session } from '../pkcs11/session.ts';
import { IvError, knownAnswerProfile, type KeyHandles } from '../profiles/index.ts';
import { monotonicMs } from '../wire/clock.ts';
import type { CryptoRequest } from '../wire/messages.ts';
import { judge } from './judge.ts';
import { checkValueId } from './key-id.ts';
import { checkKnownAnswer, makeKnownAnswer } from './known-answer.ts';
import { openBody } from './open-scheme.ts';
import { OperationError, refuseExpired } from './operation-error.ts';
import type { Partition } from './partition.ts';

/** How often an operation is tried on a token that is well again, before it is given back as lost. */
const ATTEMPTS = 3;
/** A token that was seen in trouble is not believed about wrong tags for so long, in milliseconds. */
const DISTRUST_MS = 5_000;
const PROBE_BYTES = 32;

/** Encrypt and decrypt on a connected partition, and the judgement of what failed. */
export class Operations {
  readonly #partition: Partition;
  #distrustUntil: number;

  /** @param afterLoss - the token was lost, or could not be reached, a moment ago. */
  constructor(partition: Partition, afterLoss: boolean) {
    this.#partition = partition;
    this.#distrustUntil = afterLoss ? monotonicMs() + DISTRUST_MS : 0;
  }

  /** @returns the body that goes behind the header. Throws OperationError. */
  async seal(request: CryptoRequest): Promise<Buffer> {
    const { handles } = this.#key(request.keyId);
    const { pool, profile } = this.#partition;
    return this.#attempt(request, handles, () =>
      pool.use(async (session) => {
        refuseExpired(request);
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
      request,
      handles,
      () =>
        pool.use((session) => {
          refuseExpired(request);
          return openBody(session, request.scheme, handles, request.associatedData, request.data);
        }),
      (error) => this.#judge(request, handles, provable, error),
    );
  }

  /** A known answer under the key that encrypts; without any key, a look at the session. Throws CkrError, IvError. */
  async probe(): Promise<void> {
    const usable = this.#partition.keys.find((key) => key.problems.length === 0 && key.sealProblems.length === 0);
    const id = usable?.ids[0]?.id;
    const found = id === undefined ? undefined : this.#partition.handles(id);
    if (found === undefined) this.#partition.checkSession();
    else await this.#knownAnswer(found.handles);
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
    work: () => Promise<Buffer>,
    judgeIt?: (error: CkrError) => Promise<Buffer | undefined>,
  ): Promise<Buffer> {
    const { keyId } = request;
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (thrown) {
        if (thrown instanceof IvError) throw this.#refusedIv(thrown, keyId);
        if (!(thrown instanceof CkrError)) throw thrown;
        const kind = classifyCkr(thrown.ckr);
        const final = this.#finalError(thrown, kind, keyId);
        // Only a token that is well is believed: one that goes down may answer anything.
        if (final !== undefined && (await this.#isWell(keyId, handles))) throw final;
        if (judgeIt !== undefined && (kind === 'tag' || kind === 'ambiguous')) {
          const plaintext = await judgeIt(thrown);
          if (plaintext !== undefined) return plaintext;
        }
        if (attempt >= ATTEMPTS || !(await this.#isWell(keyId, handles))) {
          throw new OperationError('token-away', `${this.#where()}: ${thrown.message}`, {
            ckr: thrown.ckr,
            lost: true,
          });
        }
      }
    }
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
        await this.#knownAnswer(handles);
      } else {
        await this.probe();
      }
      return true;
    } catch (error) {
      if (!(error instanceof CkrError) && !(error instanceof IvError)) throw error;
      this.#distrust();
      return false;
    }
  }

  #knownAnswer(handles: KeyHandles): Promise<void> {
    const { pool, profile } = this.#partition;
    return pool.use(async (session) => {
      const known = await makeKnownAnswer(session, profile, handles, PROBE_BYTES);
      await checkKnownAnswer(session, handles, known);
    });
  }

  #canSeal(keyId: string): boolean {
    const key = this.#partition.keys.find((candidate) => candidate.ids.some(({ id }) => id === keyId));
    return key?.sealProblems.length === 0;
  }

  #distrust(): void {
    this.#distrustUntil = monotonicMs() + DISTRUST_MS;
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

  /** @returns the plaintext when it opens after all; undefined when the token is to blame. Throws OperationError. */
  async #judge(
    request: CryptoRequest,
    handles: KeyHandles,
    provable: boolean,
    first: CkrError,
  ): Promise<Buffer | undefined> {
    const { keyId } = request;
    const { pool, profile } = this.#partition;
    const knownBy = knownAnswerProfile(profile, request.scheme);
    if (!provable || knownBy === undefined || !this.#canSeal(keyId)) {
      if (!(await this.#isWell(keyId, handles))) return undefined;
      throw new OperationError(
        'unproven',
        `${this.#where()}: ${first.message} for a ciphertext of key ${keyId}: the key is another than the one that made it, or the ciphertext was changed; with this key it cannot be told which`,
        { ckr: first.ckr },
      );
    }
    const verdict = await pool.use(async (session) => {
      // A call that fails may leave its operation open.
      session.tainted = true;
      return judge(session, request, handles, knownBy, (on) => this.#hasId(on, keyId, handles), first);
    });
    switch (verdict.kind) {
      case 'opens':
        this.#distrust();
        return verdict.plaintext;
      case 'token':
        this.#distrust();
        return undefined;
      case 'forged':
        if (monotonicMs() < this.#distrustUntil) return undefined;
        throw new OperationError(
          'not-authentic',
          `the ciphertext or its header was changed: ${first.message} for key ${keyId}, while known answers open`,
          { ckr: first.ckr },
        );
    }
  }

  #where(): string {
    const { label, serial } = this.#partition.token;
    return `partition "${label}" (serial ${serial})`;
  }
}
