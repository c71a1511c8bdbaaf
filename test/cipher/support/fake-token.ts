import { createCipheriv, createDecipheriv, createHmac, randomBytes } from 'node:crypto';
import { abandonable, type Call } from '../../../src/call/index.ts';
import { KmsError } from '../../../src/errors/index.ts';
import type { Token, TokenScheme } from '../../../src/token/index.ts';

export interface RawKey {
  readonly aes: Buffer;
  readonly mac?: Buffer;
}

const IV_BYTES = { 1: 12, 2: 16, 3: 16 } as const;

/** A token in this process that counts its calls, waits when told to, and may be away. */
export class FakeToken {
  readonly seals: { readonly keyId: string; readonly call: Call }[] = [];
  readonly opens: { readonly keyId: string; readonly call: Call }[] = [];
  /** Buffers handed out by `open`. */
  readonly opened: Buffer[] = [];
  /** Each call waits for it. */
  gate: Promise<void> = Promise.resolve();
  away = false;
  /** Changes what `seal` or `open` gives back. */
  garble: ((operation: 'seal' | 'open', bytes: Buffer) => Buffer) | undefined;
  readonly #keys: ReadonlyMap<string, RawKey>;

  constructor(keys: Readonly<Record<string, RawKey>>) {
    this.#keys = new Map(Object.entries(keys));
  }

  get calls(): number {
    return this.seals.length + this.opens.length;
  }

  /** Calls wait until the function that this returns is called. */
  hold(): () => void {
    let release = (): void => undefined;
    this.gate = new Promise((resolve) => (release = resolve));
    return release;
  }

  asToken(): Token {
    const open = async (keyId: string, scheme: TokenScheme, associated: Buffer, body: Buffer, call: Call) => {
      this.opens.push({ keyId, call });
      await this.#wait(call);
      const plaintext = openBody(this.#key(keyId), scheme, associated, body);
      const given = this.garble?.('open', plaintext) ?? plaintext;
      this.opened.push(given);
      return given;
    };
    return {
      seal: async (keyId: string, scheme: TokenScheme, associated: Buffer, plaintext: Buffer, call: Call) => {
        this.seals.push({ keyId, call });
        const body = sealBody(this.#key(keyId), scheme, associated, Buffer.from(plaintext));
        await this.#wait(call);
        return this.garble?.('seal', body) ?? body;
      },
      open,
      openSurely: open,
      onIvs: () => undefined,
    } as unknown as Token;
  }

  async #wait(call: Call): Promise<void> {
    // As long as a real one takes at least: a turn of the event loop.
    await abandonable(
      this.gate.then(() => new Promise<void>((resolve) => void setImmediate(resolve))),
      call.signal,
    );
    if (this.away) throw new KmsError('token-away', 'the token is away');
  }

  #key(keyId: string): RawKey {
    const key = this.#keys.get(keyId);
    if (key === undefined) throw new KmsError('key-missing', `no key ${keyId}`);
    return key;
  }
}

function sealBody({ aes, mac }: RawKey, scheme: TokenScheme, associated: Buffer, plaintext: Buffer): Buffer {
  const iv = randomBytes(IV_BYTES[scheme]);
  if (scheme === 3) {
    const cipher = createCipheriv('aes-256-cbc', aes, iv);
    const ciphertext = Buffer.concat([iv, cipher.update(plaintext), cipher.final()]);
    return Buffer.concat([ciphertext, hmac(mac, associated, ciphertext)]);
  }
  const cipher = createCipheriv(gcmOf(aes), aes, iv, { authTagLength: 16 });
  cipher.setAAD(associated);
  return Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

function openBody({ aes, mac }: RawKey, scheme: TokenScheme, associated: Buffer, body: Buffer): Buffer {
  const iv = body.subarray(0, IV_BYTES[scheme]);
  try {
    if (scheme === 3) {
      const authenticated = body.subarray(0, -32);
      if (!hmac(mac, associated, authenticated).equals(body.subarray(-32))) throw new Error('MAC');
      const decipher = createDecipheriv('aes-256-cbc', aes, iv);
      return Buffer.concat([decipher.update(authenticated.subarray(iv.length)), decipher.final()]);
    }
    const decipher = createDecipheriv(gcmOf(aes), aes, iv, { authTagLength: 16 });
    decipher.setAAD(associated);
    decipher.setAuthTag(body.subarray(-16));
    return Buffer.concat([decipher.update(body.subarray(iv.length, -16)), decipher.final()]);
  } catch {
    throw new KmsError('not-authentic', 'wrong tag');
  }
}

const gcmOf = (aes: Buffer): 'aes-128-gcm' | 'aes-192-gcm' | 'aes-256-gcm' =>
  aes.length === 16 ? 'aes-128-gcm' : aes.length === 24 ? 'aes-192-gcm' : 'aes-256-gcm';

function hmac(mac: Buffer | undefined, ...parts: readonly Buffer[]): Buffer {
  if (mac === undefined) throw new Error('a key without its second one');
  const hash = createHmac('sha256', mac);
  for (const part of parts) hash.update(part);
  return hash.digest();
}
