import { status, type StatusObject } from '@grpc/grpc-js';
import type { KmsError, StatusName } from '../errors/index.ts';

/** gRPC's numbers for the names of the failure table: the only place that turns one into the other. */
export const STATUS_NUMBERS = {
  INVALID_ARGUMENT: status.INVALID_ARGUMENT,
  FAILED_PRECONDITION: status.FAILED_PRECONDITION,
  UNAVAILABLE: status.UNAVAILABLE,
  DEADLINE_EXCEEDED: status.DEADLINE_EXCEEDED,
  RESOURCE_EXHAUSTED: status.RESOURCE_EXHAUSTED,
  INTERNAL: status.INTERNAL,
  CANCELLED: status.CANCELLED,
} as const satisfies Record<StatusName, status>;

/**
 * Longest message sent, in UTF-16 units. It travels percent-encoded in a trailer (up to 9 bytes a unit), and grpc-java
 * takes 8 KiB of trailers.
 */
const LONGEST_MESSAGE = 800;

/** A failure as the caller sees it: the status and `message [KMS-nnnn]`. */
export function toGrpcStatus(error: KmsError): Pick<StatusObject, 'code' | 'details'> {
  const message =
    error.message.length > LONGEST_MESSAGE ? `${error.message.slice(0, LONGEST_MESSAGE)}…` : error.message;
  // A lone surrogate would make the percent-encoding throw.
  return { code: STATUS_NUMBERS[error.status], details: `${message.toWellFormed()} [${error.code}]` };
}
