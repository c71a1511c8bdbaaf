/** Readers of values with a unit or a form of their own. */
import path from 'node:path';
import { shown } from '../problems.ts';
import { Fault, outside, scalar, textual, wrongType, type Reader } from './scalars.ts';

const MILLISECONDS = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;
const BYTES = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3, TiB: 1024 ** 4 } as const;

/** A duration with its unit (`500ms`, `10s`, `5m`, `1h`) in milliseconds. A bare 0 needs no unit. */
export function duration(min: string, max: string): Reader<number> {
  return measure('a duration', MILLISECONDS, min, max, 'write a whole number and ms, s, m or h, such as 10s');
}

/** A size with its unit (`512B`, `64KiB`, `1MiB`) in bytes. */
export function size(min: string, max: string): Reader<number> {
  return measure('a size', BYTES, min, max, 'write a whole number and B, KiB, MiB, GiB or TiB, such as 1MiB');
}

function measure(
  what: string,
  units: Readonly<Record<string, number>>,
  min: string,
  max: string,
  mend: string,
): Reader<number> {
  const least = amount(min, units) ?? 0;
  const most = amount(max, units) ?? Number.MAX_SAFE_INTEGER;
  return scalar((value) => {
    if (value.kind !== 'scalar') return wrongType(value, what, mend);
    const written = value.value;
    if (written === 0 && least === 0) return 0;
    if (typeof written === 'number') return new Fault(`is the number ${shown(written)}, without a unit`, mend);
    if (typeof written !== 'string') return wrongType(value, what, mend);
    const read = amount(written, units);
    if (read === undefined) return new Fault(`is ${shown(written)} and not ${what}`, mend);
    if (read < least || read > most) return new Fault(`is ${shown(written)}`, `give ${what} from ${min} to ${max}`);
    return read;
  });
}

function amount(written: string, units: Readonly<Record<string, number>>): number | undefined {
  const [, digits, unit = ''] = /^(\d{1,12}) ?([a-zA-Z]{0,3})$/.exec(written) ?? [];
  if (digits === undefined) return undefined;
  if (unit === '') return Number(digits) === 0 ? 0 : undefined;
  const factor = Object.hasOwn(units, unit) ? units[unit] : undefined;
  return factor === undefined ? undefined : Number(digits) * factor;
}

/**
 * Permission bits as text of octal digits. A number is refused whatever its digits: YAML 1.2 reads 0600 as the decimal
 * number 600, YAML 1.1 as octal.
 */
export const mode = scalar((value) => {
  const mend = 'write three or four octal digits in quotes, such as "0600"';
  const written = value.kind === 'scalar' ? value.value : undefined;
  if (typeof written === 'number') {
    return new Fault(`is the decimal number ${shown(written)}, since YAML 1.2 does not read 0600 as octal`, mend);
  }
  if (typeof written !== 'string') return wrongType(value, 'a file mode', mend);
  if (!/^(0o?)?[0-7]{3}$/.test(written)) return new Fault(`is ${shown(written)} and not a file mode`, mend);
  return Number.parseInt(written.slice(-3), 8);
});

/** A CK_ULONG has 64 bits. */
const LARGEST_SLOT = 2n ** 64n - 1n;

/** A slot's id in decimal, as exactly as it is written. */
export const slotId = scalar((value) => {
  const written = value.kind === 'scalar' ? value.value : undefined;
  if (typeof written !== 'bigint' && !(typeof written === 'number' && Number.isInteger(written))) {
    return wrongType(value, 'a whole number', 'write digits only, without quotes or a unit');
  }
  const id = BigInt(written);
  return id >= 0n && id <= LARGEST_SLOT ? String(id) : outside(written, 0, LARGEST_SLOT);
});

/** A file's name, made absolute from the configuration file's directory. */
export const filePath = textual((written, directory) => {
  // Not shown: whoever puts contents where a name belongs may have put a key or a PIN there.
  if (hasControls(written)) {
    return new Fault('holds a line break or control character', "give the file's name, not its contents");
  }
  return path.resolve(directory, written);
});

/** A key id: 16 bytes as 32 hex digits, in lower case. */
export const keyId = textual((written) => {
  if (/^[0-9a-f]{32}$/i.test(written)) return written.toLowerCase();
  const trouble = `is ${shown(written)}, ${written.length} characters`;
  return new Fault(trouble, 'give the 32 hex digits that `kms-plugin keys list` shows');
});

/** A CKA_ID: 1 to 255 bytes as hex digits, in lower case. */
export const ckaId = textual((written) => {
  if (/^([0-9a-f]{2}){1,255}$/i.test(written)) return written.toLowerCase();
  return new Fault(`is ${shown(written)}`, 'give the bytes of CKA_ID as hex digits, in quotes: two for each byte');
});

/** What a key without a label is called in state files, reports and commands. */
export const nameOfCkaId = (ckaId: string): string => `cka_id:${ckaId}`;

/** Text for people and tokens: no control characters, no blanks at its ends, at most `maxBytes` of UTF-8. */
export function name(maxBytes: number): Reader<string> {
  return textual((written) => {
    if (hasControls(written)) return new Fault('holds a control character', 'remove it');
    if (written !== written.trim()) return new Fault('begins or ends with a blank', 'remove it');
    const bytes = Buffer.byteLength(written);
    return bytes <= maxBytes ? written : new Fault(`is ${bytes} bytes long`, `give at most ${maxBytes} bytes`);
  });
}

export function hasControls(written: string): boolean {
  return /\p{Cc}/u.test(written);
}
