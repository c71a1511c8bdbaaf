import type { LogFields } from './types.ts';

/** Longer strings are cut, in UTF-16 code units: a log line is no place for a value. */
const LONGEST_STRING = 2048;
const MOST_ENTRIES = 100;
const DEEPEST = 6;

/** Names whose contents are never printed, whatever a caller passes. */
const FORBIDDEN = new Set(['pin', 'password', 'plain', 'plaintext', 'plaintexts', 'secret', 'datakey', 'ciphertext']);

/**
 * A copy of `fields` that is fit to print: the last line of defence behind rooms that pass no secrets in the first
 * place. Bytes become their length, long strings are cut, errors keep name, message, code and stack, and depth and
 * width are bounded. Names that the line itself uses (time, level, message) get a leading underscore.
 */
export function printable(fields: LogFields): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields).slice(0, MOST_ENTRIES)) {
    const safe = member(name, value, 0);
    if (safe !== undefined) out[RESERVED.has(name) ? `_${name}` : name] = safe;
  }
  return out;
}

const RESERVED = new Set(['time', 'level', 'message', '__proto__']);

/** Cuts a string that is too long for a log line and says by how much. */
export function shortened(text: string): string {
  if (text.length <= LONGEST_STRING) return text;
  return `${text.slice(0, LONGEST_STRING)}… (${text.length - LONGEST_STRING} more characters)`;
}

function member(name: string, value: unknown, depth: number): unknown {
  const hidden = FORBIDDEN.has(name.toLowerCase().replaceAll('_', '')) && value !== undefined && !isBytes(value);
  return hidden ? '[removed]' : safeValue(value, depth);
}

function safeValue(value: unknown, depth: number): unknown {
  switch (typeof value) {
    case 'string':
      return shortened(value);
    case 'number':
      return Number.isFinite(value) ? value : String(value);
    case 'boolean':
      return value;
    case 'bigint':
      return value.toString();
    case 'object':
      return value === null ? null : safeObject(value, depth);
    case 'undefined':
    case 'function':
    case 'symbol':
      return undefined;
  }
}

function safeObject(value: object, depth: number): unknown {
  if (isBytes(value)) return `[${value.byteLength} bytes]`;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'Invalid Date' : value.toISOString();
  if (depth >= DEEPEST) return '[too deep]';
  if (value instanceof Error) return safeError(value, depth);
  if (Array.isArray(value)) {
    const shown = value.slice(0, MOST_ENTRIES).map((entry) => safeValue(entry, depth + 1) ?? null);
    return value.length > MOST_ENTRIES ? [...shown, `… ${value.length - MOST_ENTRIES} more`] : shown;
  }
  // What Buffer's toJSON makes.
  if ('type' in value && value.type === 'Buffer' && 'data' in value && Array.isArray(value.data)) {
    return `[${value.data.length} bytes]`;
  }
  const entries = value instanceof Map ? [...(value as Map<unknown, unknown>)] : Object.entries(value);
  const out: Record<string, unknown> = {};
  for (const [name, entry] of entries.slice(0, MOST_ENTRIES)) {
    const safe = member(String(name), entry, depth + 1);
    if (safe !== undefined && name !== '__proto__') out[String(name)] = safe;
  }
  return out;
}

function safeError(error: Error, depth: number): Record<string, unknown> {
  const out: Record<string, unknown> = { name: error.name, message: shortened(error.message) };
  if ('code' in error && (typeof error.code === 'string' || typeof error.code === 'number')) out['code'] = error.code;
  if (error.stack !== undefined) out['stack'] = shortened(error.stack);
  if (error.cause !== undefined) out['cause'] = safeValue(error.cause, depth + 1);
  return out;
}

function isBytes(value: unknown): value is ArrayBufferLike | ArrayBufferView {
  return ArrayBuffer.isView(value) || value instanceof ArrayBuffer || value instanceof SharedArrayBuffer;
}
