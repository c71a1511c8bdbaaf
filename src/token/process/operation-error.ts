import type { FailureKind } from '../../errors/index.ts';

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
