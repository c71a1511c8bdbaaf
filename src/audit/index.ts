/** Who had what encrypted or decrypted, when, and how it ended: one JSON line for each operation, off by default. */
export { AuditTrail, type AuditOptions } from './trail.ts';
