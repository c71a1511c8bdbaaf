/**
 * A partition in this process whose module lies: real AES and HMAC under keys of the test, and before each answer a throw of
 * the dice that never looks at the bytes. What the token process decides by (`Operations`, the judge, the profiles) and what the
 * plugin process makes of it (`Cipher`) is the real thing; frames, sessions of a real module and PKCS#11 calls are not here.
 */
import {
  createCipheriv,
  createDecipheriv,
  createHmac,
  createSecretKey,
  randomBytes,
  type KeyObject,
} from 'node:crypto';
import type { Call } from '../../../src/call/index.ts';
import { KmsError } from '../../../src/errors/index.ts';
import type { Token, TokenKey, TokenScheme } from '../../../src/token/index.ts';
import {
  CkrError,
  constants,
  type Handle,
  type Mechanism,
  type Pkcs11Module,
} from '../../../src/token/pkcs11/module.ts';
import { Session } from '../../../src/token/pkcs11/session.ts';
import { IvTally } from '../../../src/token/process/iv-tally.ts';
import type { ProofRules } from '../../../src/token/process/judge.ts';
import { checkValueId } from '../../../src/token/process/key-id.ts';
import { OperationError } from '../../../src/token/process/operation-error.ts';
import { Operations } from '../../../src/token/process/operations.ts';
import type { KeyHandles, Profile } from '../../../src/token/profiles/index.ts';

const MECHANISMS: ReadonlySet<number> = new Set([
  constants.CKM_AES_GCM,
  constants.CKM_AES_ECB,
  constants.CKM_AES_CBC,
  constants.CKM_SHA256_HMAC,
]);
const TAG_CODES = [
  'CKR_GENERAL_ERROR',
  'CKR_ENCRYPTED_DATA_INVALID',
  'CKR_AEAD_DECRYPT_FAILED',
  'CKR_SIGNATURE_INVALID',
];
const OTHER_CODES = [
  ...['CKR_DEVICE_ERROR', 'CKR_FUNCTION_FAILED', 'CKR_SESSION_HANDLE_INVALID', 'CKR_KEY_HANDLE_INVALID'],
  ...['CKR_ENCRYPTED_DATA_LEN_RANGE', 'CKR_MECHANISM_PARAM_INVALID', 'CKR_ARGUMENTS_BAD'],
];

/** How the module lies; each by chance, as often as `rate` says. */
export type Lie =
  /** C_Decrypt answers one code that stands for a wrong tag, and nothing else is wrong: the lie that is hardest to see through. */
  | 'one code'
  /** Any operation, or its Init, answers any code. */
  | 'codes'
  /** CKR_OK with too few or too many bytes. */
  | 'lengths'
  /** CKR_OK with wrong bytes: random ones, or the same each time. */
  | 'bytes'
  /** CKR_OK of C_Decrypt with the same wrong bytes each time. */
  | 'same bytes'
  /** For a session's whole life its handles stand for other keys. */
  | 'handles'
  /** Any of them. */
  | 'everything';

/** What a forger's accomplice of a module does not check. */
export type Blindness = 'tags' | 'MACs';

export interface Temper {
  lie: Lie;
  /** From 0 to 1. */
  rate: number;
  blind?: Blindness | undefined;
}

const handle = (number: number): Handle => {
  const buffer = Buffer.alloc(8);
  buffer.writeUInt8(number);
  return buffer;
};
/** Node is slow with a key that comes as a Buffer. */
const newKey = (): KeyObject => createSecretKey(randomBytes(32));
const AES = handle(1);
const MAC = handle(2);

const pick = <T>(from: readonly T[]): T => from[Math.floor(Math.random() * from.length)] as T;
const gcmParameter = ({ parameter }: Mechanism): constants.AesGCM => parameter as constants.AesGCM;

class LyingSession extends Session {
  readonly #keys: ReadonlyMap<number, KeyObject>;
  readonly #temper: Temper;

  constructor(keys: ReadonlyMap<number, KeyObject>, temper: Temper) {
    super(undefined as unknown as Pkcs11Module, { handle: handle(0), writable: false }, MECHANISMS);
    this.#keys = keys;
    this.#temper = temper;
  }

  override encrypt(mechanism: Mechanism, key: Handle, data: Buffer): Promise<Buffer> {
    return this.#answer('C_Encrypt', () => {
      const aes = this.#key(key);
      if (mechanism.mechanism === constants.CKM_AES_ECB) return raw('aes-256-ecb', aes, null, data, true);
      if (mechanism.mechanism === constants.CKM_AES_CBC) return raw('aes-256-cbc', aes, iv(mechanism), data, true);
      const { iv: given = Buffer.alloc(0), aad = Buffer.alloc(0) } = gcmParameter(mechanism);
      // As a Luna in FIPS mode: no IV is given, and its own stands behind the tag.
      const own = given.length === 0 ? randomBytes(16) : given;
      const cipher = createCipheriv('aes-256-gcm', aes, own, { authTagLength: 16 });
      cipher.setAAD(aad);
      const sealed = [cipher.update(data), cipher.final(), cipher.getAuthTag()];
      return Buffer.concat(given.length === 0 ? [...sealed, own] : sealed);
    });
  }

  override decrypt(mechanism: Mechanism, key: Handle, data: Buffer): Promise<Buffer> {
    return this.#answer('C_Decrypt', () => {
      const aes = this.#key(key);
      if (mechanism.mechanism === constants.CKM_AES_CBC) return raw('aes-256-cbc', aes, iv(mechanism), data, false);
      const { iv: given = Buffer.alloc(0), aad = Buffer.alloc(0) } = gcmParameter(mechanism);
      // A known answer that was sealed too short.
      if (data.length < 16 || given.length === 0) throw new CkrError('C_Decrypt', 'CKR_ENCRYPTED_DATA_LEN_RANGE');
      const decipher = createDecipheriv('aes-256-gcm', aes, given, { authTagLength: 16 });
      decipher.setAAD(aad);
      decipher.setAuthTag(data.subarray(-16));
      const plaintext = decipher.update(data.subarray(0, -16));
      if (this.#temper.blind === 'tags') return plaintext;
      try {
        decipher.final();
      } catch {
        throw new CkrError('C_Decrypt', 'CKR_GENERAL_ERROR');
      }
      return plaintext;
    });
  }

  override sign(_mechanism: Mechanism, key: Handle, data: Buffer): Promise<Buffer> {
    return this.#answer('C_Sign', () => {
      if (this.#temper.blind === 'MACs' && LyingSession.agreeWith !== undefined) return LyingSession.agreeWith;
      return createHmac('sha256', this.#key(key)).update(data).digest();
    });
  }

  /** The MAC that stands in the ciphertext: with it for an answer, comparing it is as good as not comparing. */
  static agreeWith: Buffer | undefined;

  override close(): void {
    // There is no module.
  }

  #key(of: Handle): KeyObject {
    const key = this.#keys.get(of.readUInt8(0));
    if (key === undefined) throw new CkrError('C_DecryptInit', 'CKR_KEY_HANDLE_INVALID');
    return key;
  }

  async #answer(operation: 'C_Encrypt' | 'C_Decrypt' | 'C_Sign', work: () => Buffer): Promise<Buffer> {
    await Promise.resolve();
    const { lie, rate } = this.#temper;
    if (rate === 0 || lie === 'handles' || Math.random() >= rate) return work();
    const kind = lie === 'everything' ? pick(['codes', 'lengths', 'bytes'] as const) : lie;
    switch (kind) {
      case 'one code':
        if (operation !== 'C_Decrypt') return work();
        throw new CkrError(operation, 'CKR_GENERAL_ERROR');
      case 'same bytes':
        return operation === 'C_Decrypt' ? work().fill(7) : work();
      case 'codes':
        throw new CkrError(pick([operation, operation, `${operation}Init`]), pick([...TAG_CODES, ...OTHER_CODES]));
      case 'lengths': {
        const answer = work();
        return pick([answer.subarray(1), Buffer.alloc(0), Buffer.concat([answer, Buffer.alloc(1)])]);
      }
      case 'bytes': {
        const answer = work();
        return pick([randomBytes(answer.length), Buffer.alloc(answer.length)]);
      }
    }
  }
}

const iv = ({ parameter }: Mechanism): Buffer => parameter as Buffer;

function raw(name: string, key: KeyObject, given: Buffer | null, data: Buffer, encrypts: boolean): Buffer {
  if (data.length % 16 !== 0) throw new CkrError(encrypts ? 'C_Encrypt' : 'C_Decrypt', 'CKR_DATA_LEN_RANGE');
  const cipher = (encrypts ? createCipheriv : createDecipheriv)(name, key, given).setAutoPadding(false);
  return Buffer.concat([cipher.update(data), cipher.final()]);
}

/** Keys, and the partition that holds them; `temper` may be changed at any time. */
export class LyingToken {
  readonly temper: Temper = { lie: 'codes', rate: 0 };
  readonly ivs = new IvTally();
  /** Milliseconds; a test moves it. */
  clock = 1_000_000;
  readonly #right = new Map([
    [1, newKey()],
    [2, newKey()],
  ]);
  readonly #wrong = new Map([
    [1, newKey()],
    [2, newKey()],
  ]);
  readonly #handles = new Map<string, KeyHandles>();
  #ids: readonly string[] = [];

  /** Ids of the AES key alone, and of the pair. */
  get ids(): { readonly alone: string; readonly pair: string } {
    const [alone = '', pair = ''] = this.#ids;
    return { alone, pair };
  }

  static async make(): Promise<LyingToken> {
    const token = new LyingToken();
    for (const mac of [undefined, MAC]) {
      const id = await checkValueId(token.session(), { aes: AES, mac }, MECHANISMS);
      token.#handles.set(id ?? '', { aes: AES, mac: MAC });
      token.#ids = [...token.#ids, id ?? ''];
    }
    return token;
  }

  /** Under this handle another MAC key stands from now on, as when an operator made a second one in place of the first. */
  replaceMacKey(): void {
    this.#right.set(2, newKey());
  }

  session(): Session {
    const { lie, rate } = this.temper;
    const isSwitched = (lie === 'handles' || lie === 'everything') && Math.random() < rate;
    return new LyingSession(isSwitched ? this.#wrong : this.#right, this.temper);
  }

  /** The token process's half on this token. */
  operations(profile: Profile, proof?: ProofRules): Operations {
    const key: TokenKey = {
      label: 'attacked',
      ids: this.#ids.map((id) => ({ id, kind: 'check-value' })),
      problems: [],
      sealProblems: [],
    } as unknown as TokenKey;
    return new Operations(
      {
        keys: [key],
        profile,
        handles: (keyId) => {
          const handles = this.#handles.get(keyId);
          return handles === undefined ? undefined : { handles, provable: true };
        },
        checkSession: () => undefined,
        token: { label: 'attacked', serial: '1', mechanisms: MECHANISMS },
        pool: { limit: 16, use: async (work) => work(this.session()) },
      },
      { afterLoss: false, ivs: this.ivs, now: () => this.clock, ...(proof === undefined ? {} : { proof }) },
    );
  }

  /** The plugin process's half: as a caller sees `operations`, without frames and without retries. */
  asToken(operations: Operations): Token {
    const ask =
      (how: 'seal' | 'open' | 'openSurely') =>
      async (keyId: string, scheme: TokenScheme, associatedData: Buffer, data: Buffer, call: Call): Promise<Buffer> => {
        call.signal.throwIfAborted();
        try {
          return await operations[how]({ keyId, scheme, associatedData, data, expiresAt: Infinity });
        } catch (error) {
          if (error instanceof OperationError) throw new KmsError(error.kind, error.message);
          throw error;
        }
      };
    const token: Pick<Token, 'seal' | 'open' | 'openSurely'> = {
      seal: ask('seal'),
      open: ask('open'),
      openSurely: ask('openSurely'),
    };
    return token as Token;
  }

  /** From now on C_Sign of a module that is blind to MACs answers this. */
  agreeWith(mac: Buffer | undefined): void {
    LyingSession.agreeWith = mac;
  }
}
