import type { FinishedCall } from '../api/index.ts';

/** What the trail is about: the methods that use a key. */
const OPERATIONS = new Set(['Encrypt', 'Decrypt']);

export const isOperation = ({ method }: FinishedCall): boolean => OPERATIONS.has(method);

/**
 * One operation as a line of ASCII, its line feed included, so that its length is its number of bytes. Clients choose
 * the uid: whatever in it a terminal might obey is escaped.
 */
export function operationLine(call: FinishedCall, time: Date): string {
  return line({
    time: time.toISOString(),
    api: call.api,
    method: call.method,
    listener: call.listener,
    status: call.status,
    code: call.code,
    uid: call.uid === '' ? undefined : call.uid,
    key_id: call.keyId,
    request_bytes: call.requestBytes,
    response_bytes: call.responseBytes,
    latency_ms: Math.round(call.durationMs * 1000) / 1000,
  });
}

/** What stands in the place of lines that are missing. */
export function lostLine(lines: number, time: Date): string {
  return line({ time: time.toISOString(), lost: lines });
}

function line(fields: Readonly<Record<string, unknown>>): string {
  const escape = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return `${JSON.stringify(fields).replace(/[\u007f-\uffff]/g, escape)}\n`;
}
