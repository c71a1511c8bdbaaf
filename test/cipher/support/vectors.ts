import { readFileSync } from 'node:fs';
import path from 'node:path';
import { FakeToken, type RawKey } from './fake-token.ts';

interface KeyVector {
  readonly name: string;
  readonly aes: string;
  readonly mac?: string;
  readonly key_id: string;
}

export interface Vector {
  readonly name: string;
  readonly key: string;
  readonly scheme: number;
  readonly inner_scheme?: 1 | 2 | 3;
  readonly data_key?: string;
  readonly iv: string;
  readonly plaintext: string;
  readonly ciphertext: string;
}

export interface RefusedVector {
  readonly name: string;
  readonly ciphertext: string;
  readonly status: 'INVALID_ARGUMENT' | 'FAILED_PRECONDITION';
  readonly needs_key?: boolean;
}

export const VECTORS = JSON.parse(
  readFileSync(path.join(import.meta.dirname, '../../vectors/ciphertext.json'), 'utf8'),
) as {
  readonly keys: readonly KeyVector[];
  readonly retired: readonly KeyVector[];
  readonly vectors: readonly Vector[];
  readonly refused: readonly RefusedVector[];
};

export const unhex = (text: string): Buffer => Buffer.from(text, 'hex');

/** A token that holds every key of the vectors. */
export function tokenOfVectors(): FakeToken {
  const rawKeys = VECTORS.keys.map(({ key_id, aes, mac }): [string, RawKey] => [
    key_id,
    { aes: unhex(aes), ...(mac === undefined ? {} : { mac: unhex(mac) }) },
  ]);
  return new FakeToken(Object.fromEntries(rawKeys));
}
