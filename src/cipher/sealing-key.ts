import type { TokenKey } from '../token/index.ts';

/** The key that encrypts: its facts on the token, and which of its ids it writes. */
export interface SealingKey {
  readonly keyId: string;
  readonly token: Pick<TokenKey, 'scheme' | 'ivBy' | 'maxValueBytes'>;
}
