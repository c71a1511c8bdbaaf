/**
 * What can go wrong, once for the whole program: every failure that reaches a caller, the log or an operator has a kind,
 * and this table gives each kind its stable code and its gRPC status. CredHub and kube-apiserver act on the status
 * (docs/status-codes.md says how), operators look the code up in docs/errors.md.
 */

/** The gRPC status names used here (the api room alone turns them into numbers). */
export type StatusName =
  | 'INVALID_ARGUMENT'
  | 'FAILED_PRECONDITION'
  | 'UNAVAILABLE'
  | 'DEADLINE_EXCEEDED'
  | 'RESOURCE_EXHAUSTED'
  | 'INTERNAL'
  | 'CANCELLED';

interface FailureRow {
  /** Stable code that logs and docs carry. */
  readonly code: `KMS-${number}`;
  readonly status: StatusName;
  /** A call on a patient connection waits for this to pass instead of failing. */
  readonly waitable: boolean;
}

const row = (code: `KMS-${number}`, status: StatusName, waitable = false): FailureRow => ({ code, status, waitable });

/** The one table of failures. A key is the failure's kind. */
export const FAILURES = {
  // 2xxx: the token and its process
  'token-away': row('KMS-2001', 'UNAVAILABLE', true),
  'token-starting': row('KMS-2002', 'UNAVAILABLE', true),
  'pin-refused': row('KMS-2003', 'FAILED_PRECONDITION'),
  'pin-not-initialized': row('KMS-2004', 'FAILED_PRECONDITION'),
  'shutting-down': row('KMS-2005', 'UNAVAILABLE'),
  'module-limit': row('KMS-2006', 'INTERNAL'),
  'iv-refused': row('KMS-2007', 'INTERNAL'),
  'poisonous-request': row('KMS-2008', 'INTERNAL'),
  'module-misuse': row('KMS-2009', 'INTERNAL'),
  // 3xxx: keys
  'key-not-listed': row('KMS-3001', 'FAILED_PRECONDITION'),
  'key-missing': row('KMS-3002', 'FAILED_PRECONDITION', true),
  'key-unable': row('KMS-3003', 'FAILED_PRECONDITION'),
  'key-ambiguous': row('KMS-3004', 'FAILED_PRECONDITION'),
  'key-retired': row('KMS-3005', 'INVALID_ARGUMENT'),
  'key-create-refused': row('KMS-3006', 'FAILED_PRECONDITION'),
  unproven: row('KMS-3007', 'FAILED_PRECONDITION'),
  'retired-undecided': row('KMS-3008', 'FAILED_PRECONDITION', true),
  'key-replaced': row('KMS-3009', 'FAILED_PRECONDITION'),
  'key-not-made': row('KMS-3010', 'FAILED_PRECONDITION'),
  // 4xxx: ciphertexts
  'foreign-ciphertext': row('KMS-4001', 'INVALID_ARGUMENT'),
  'malformed-ciphertext': row('KMS-4002', 'INVALID_ARGUMENT'),
  'unknown-format': row('KMS-4003', 'FAILED_PRECONDITION'),
  'not-authentic': row('KMS-4004', 'INVALID_ARGUMENT'),
  // 5xxx: requests and limits
  'wrong-version': row('KMS-5001', 'INVALID_ARGUMENT'),
  'key-id-mismatch': row('KMS-5002', 'INVALID_ARGUMENT'),
  'annotations-mismatch': row('KMS-5003', 'INVALID_ARGUMENT'),
  'value-too-large': row('KMS-5004', 'RESOURCE_EXHAUSTED'),
  'queue-full': row('KMS-5005', 'RESOURCE_EXHAUSTED'),
  deadline: row('KMS-5006', 'DEADLINE_EXCEEDED'),
  cancelled: row('KMS-5007', 'CANCELLED'),
  'memory-full': row('KMS-5008', 'RESOURCE_EXHAUSTED'),
  // 9xxx: our own fault
  internal: row('KMS-9001', 'INTERNAL'),
} as const satisfies Record<string, FailureRow>;

export type FailureKind = keyof typeof FAILURES;

/** Troubles of the service itself, which fail no call: the log alone has them, with these codes. */
export const FAULTS = {
  configuration: { code: 'KMS-1001' },
  start: { code: 'KMS-1002' },
  'state-file': { code: 'KMS-1003' },
  'health-port': { code: 'KMS-1004' },
  accept: { code: 'KMS-1005' },
  connections: { code: 'KMS-1006' },
  'audit-trail': { code: 'KMS-1007' },
  'retired-listed': { code: 'KMS-1008' },
} as const satisfies Record<string, { readonly code: `KMS-${number}` }>;

/** Facts that go with a failure into the log. Never a secret, a value or a ciphertext body. */
export type FailureFacts = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * A failure with its kind. `message` is written for an operator: what failed, in which partition, with which CKR_ name,
 * and what to do. It reaches callers as the gRPC status message, so it holds no secret.
 */
export class KmsError extends Error {
  readonly kind: FailureKind;
  readonly facts: FailureFacts;

  constructor(kind: FailureKind, message: string, facts: FailureFacts = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'KmsError';
    this.kind = kind;
    this.facts = facts;
  }

  get code(): `KMS-${number}` {
    return FAILURES[this.kind].code;
  }

  get status(): StatusName {
    return FAILURES[this.kind].status;
  }

  /** Whether a patient connection's call may wait for this to pass. */
  get waitable(): boolean {
    return FAILURES[this.kind].waitable;
  }
}

/** Turns anything thrown into a KmsError; what is not one already is our own fault and keeps its text out of answers. */
export function toKmsError(thrown: unknown): KmsError {
  if (thrown instanceof KmsError) return thrown;
  return new KmsError('internal', 'internal error; the log of the plugin has the details', {}, thrown);
}
