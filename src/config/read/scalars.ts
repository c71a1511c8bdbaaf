/** Readers of single values. What they find wrong they give back as a `Fault`; `scalar` reports it. */
import { shown, type Sheet } from '../problems.ts';
import type { Yaml } from './document.ts';
import { nearest } from './nearest.ts';

/** Reads one value; undefined when it is at fault, which is reported. */
export type Reader<T> = (value: Yaml, property: string, sheet: Sheet) => T | undefined;

/** Trouble and mend of one value, in the words of `Problem`. */
export class Fault {
  readonly trouble: string;
  readonly mend: string;

  constructor(trouble: string, mend: string) {
    this.trouble = trouble;
    this.mend = mend;
  }
}

/** Makes a reader from a function of the value and of the directory that relative paths start from. */
export function scalar<T extends string | number | boolean | object>(
  parse: (value: Yaml, directory: string) => T | Fault,
): Reader<T> {
  return (value, property, sheet) => {
    if (value.kind === 'faulty') return undefined;
    const read = parse(value, sheet.directory);
    if (!(read instanceof Fault)) return read;
    sheet.problem(property, read.trouble, read.mend);
    return undefined;
  };
}

/** Like `scalar`, for texts of at least one character. */
export function textual<T extends string | number | object>(
  parse: (written: string, directory: string) => T | Fault,
): Reader<T> {
  return scalar((value, directory) => {
    const written = asText(value);
    return written instanceof Fault ? written : parse(written, directory);
  });
}

/** Numbers are refused and not converted: 0123 and 1e3 would not come back as they were written. */
function asText(value: Yaml): string | Fault {
  if (value.kind !== 'scalar' || typeof value.value !== 'string') {
    return wrongType(value, 'a text', value.kind === 'scalar' ? 'put the value in quotes' : 'give one text');
  }
  return value.value === '' ? new Fault('is empty', 'give a value or remove the line') : value.value;
}

export const boolean = scalar((value) => {
  if (value.kind === 'scalar' && typeof value.value === 'boolean') return value.value;
  return wrongType(value, 'true or false', 'write true or false, without quotes');
});

/** A whole number from `min` to `max`. */
export function integer(min: number, max: number): Reader<number> {
  return scalar((value) => {
    if (value.kind === 'scalar' && typeof value.value === 'bigint') return outside(value.value, min, max);
    if (value.kind !== 'scalar' || typeof value.value !== 'number' || !Number.isInteger(value.value)) {
      return wrongType(value, 'a whole number', 'write digits only, without quotes or a unit');
    }
    if (value.value >= min && value.value <= max) return value.value;
    return outside(value.value, min, max);
  });
}

export const outside = (written: number | bigint, min: number | bigint, max: number | bigint): Fault =>
  new Fault(`is ${shown(written)}`, `give a number from ${min} to ${max}`);

/** One of a few words, or of a few numbers. */
export function oneOf<const T extends string | number>(...choices: readonly T[]): Reader<T> {
  const mend = `write one of ${choices.join(', ')}`;
  return scalar((value) => {
    if (value.kind !== 'scalar' || (typeof value.value !== 'string' && typeof value.value !== 'number')) {
      return wrongType(value, 'one word', mend);
    }
    const written = value.value;
    const choice = choices.find((candidate) => candidate === written);
    if (choice !== undefined) return choice;
    const meant = nearest(String(written), choices.map(String));
    const hint = meant === undefined ? '' : `; did you mean ${meant}?`;
    return new Fault(`is ${shown(written)}`, mend + hint);
  });
}

/** Names the kind of value only: what stands where it does not belong may be a secret. */
export function wrongType(value: Yaml, wanted: string, mend: string): Fault {
  if (value.kind === 'scalar' && value.value === null) {
    return new Fault(`is empty where ${wanted} is needed`, 'give a value or remove the line');
  }
  return new Fault(`is ${kindOf(value)} where ${wanted} is needed`, mend);
}

function kindOf(value: Yaml): string {
  if (value.kind === 'map') return 'a section';
  if (value.kind === 'list') return 'a list';
  if (value.kind === 'scalar' && ['number', 'bigint'].includes(typeof value.value)) return 'a number';
  return value.kind === 'scalar' && typeof value.value === 'boolean' ? 'true or false' : 'a text';
}
