import { CkrError } from '../pkcs11/module.ts';
import type { Session } from '../pkcs11/session.ts';
import { IvError } from '../profiles/index.ts';
import type { CryptoRequest } from '../wire/messages.ts';
import { checkKnownAnswer, makeKnownAnswer, type Sealing } from './known-answer.ts';
import { isWrongTag, openBody, valueBytes } from './open-scheme.ts';
import { refuseExpired } from './operation-error.ts';

/** What a ciphertext that failed to open comes to. */
export type Verdict =
  /** It opens after all. */
  | { readonly kind: 'opens'; readonly plaintext: Buffer }
  /** It, or its header, was changed: proven. */
  | { readonly kind: 'forged' }
  /** The token is to blame, or may be. */
  | { readonly kind: 'token' };

const TOKEN: Verdict = { kind: 'token' };

/** What a proof takes. Production has `PROOF` and nothing else; a test shows with less that it would notice. */
export interface ProofRules {
  /**
   * How often the ciphertext must fail again, between known answers that open, whatever code the module has for it: a device
   * in trouble may give any, and must not condemn a good ciphertext even when every second call fails by chance. At 8 rounds
   * that is once in 260,000 (and a token seen in such trouble is not believed at all, see `operations.ts`).
   */
  readonly rounds: number;
  /** Whether the key's id must come out right on the session, before the first known answer and after the last. */
  readonly checksId: boolean;
}

export const PROOF: ProofRules = { rounds: 8, checksId: true };

/** A ciphertext before the judge. */
export interface Case {
  readonly request: CryptoRequest;
  /** Makes known answers that exercise what opening the ciphertext does. */
  readonly sealing: Sealing;
  /** Computes the key's id on the session: is it the header's? Throws CkrError. */
  readonly checkId: (session: Session) => Promise<boolean>;
}

/**
 * A ciphertext failed: is it the ciphertext, or the token? The ciphertext only when it fails again and again on one
 * session on which the key's id comes out right, and between the failures known answers of the same length open.
 *
 * Throws OperationError 'deadline' as soon as nobody waits for the verdict: forged ciphertexts with short deadlines would
 * keep sessions from those who wait.
 */
export async function judge(session: Session, subject: Case, rules: ProofRules): Promise<Verdict> {
  const { scheme, associatedData, data } = subject.request;
  let plaintext: Buffer | undefined;
  const isForged = await amongKnownAnswers(session, subject, rules, rules.rounds, async () => {
    try {
      plaintext = await openBody(session, scheme, subject.sealing.key, associatedData, data);
      return false;
    } catch (thrown) {
      if (isWrongTag(thrown, scheme)) return true;
      throw thrown;
    }
  });
  if (plaintext !== undefined) return { kind: 'opens', plaintext };
  return isForged ? { kind: 'forged' } : TOKEN;
}

/**
 * Opens a ciphertext half of the rounds on this session, between known answers.
 *
 * @param before - what another session made of it: every opening must give the same bytes.
 * @returns its plaintext, which the caller zeroes; undefined when the token is in doubt.
 * Throws OperationError 'deadline' as soon as nobody waits for it.
 */
export async function openSurely(
  session: Session,
  subject: Case,
  rules: ProofRules,
  before: Buffer | undefined,
): Promise<Buffer | undefined> {
  const { scheme, associatedData, data } = subject.request;
  let first = before;
  const isSure = await amongKnownAnswers(
    session,
    subject,
    rules,
    Math.max(1, Math.ceil(rules.rounds / 2)),
    async () => {
      const opened = await openBody(session, scheme, subject.sealing.key, associatedData, data);
      if (first === undefined) {
        first = opened;
        return true;
      }
      const isSame = opened.equals(first);
      opened.fill(0);
      return isSame;
    },
  );
  if (isSure) return first;
  if (first !== before) first?.fill(0);
  return undefined;
}

/** @returns whether every round came out and every known answer before, between and after them opened. */
async function amongKnownAnswers(
  session: Session,
  { request, sealing, checkId }: Case,
  { checksId }: ProofRules,
  rounds: number,
  round: () => Promise<boolean>,
): Promise<boolean> {
  refuseExpired(request);
  // A call that fails may leave its operation open, and a second look at the ciphertext is to be on another session.
  session.tainted = true;
  try {
    if (checksId && !(await checkId(session))) return false;
    const known = await makeKnownAnswer(session, sealing, valueBytes(request), request.associatedData.length);
    await checkKnownAnswer(session, sealing.key, known);
    for (let done = 0; done < rounds; done++) {
      refuseExpired(request);
      if (!(await round())) return false;
      await checkKnownAnswer(session, sealing.key, known);
    }
    // A handle may have come to stand for another key meanwhile.
    return !checksId || (await checkId(session));
  } catch (thrown) {
    if (thrown instanceof CkrError || thrown instanceof IvError) return false;
    throw thrown;
  }
}
