import type { FailureKind } from '../../errors/index.ts';
import { monotonicMs } from '../wire/clock.ts';
import type { CryptoRequest } from '../wire/messages.ts';

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

/** Throws OperationError 'deadline' for a request that nobody waits for any more. */
export function refuseExpired({ expiresAt }: CryptoRequest): void {
  if (monotonicMs() > expiresAt)
    throw new OperationError('deadline', 'nobody waits for the answer of the HSM any more');
}
