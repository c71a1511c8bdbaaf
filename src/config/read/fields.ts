/**
 * Small readers that are put together to the shape of the file. A reader that finds fault reports it and gives
 * undefined, and reading goes on, so that one pass finds everything.
 */
import type { Sheet } from '../problems.ts';
import { joinProperty, type Yaml } from './document.ts';
import { nearest } from './nearest.ts';
import { wrongType, type Reader } from './scalars.ts';

/** A named field of a section. */
export interface Field<T> {
  readonly read: Reader<T>;
  /** What stands for a field that is not there; undefined when that is a fault (reported). */
  readonly absent: (property: string, sheet: Sheet) => T | undefined;
}

type Shape = Readonly<Record<string, Field<unknown>>>;

/** A section as far as it could be read: undefined stands for what is at fault, null for an optional field not given. */
export type Draft<S> = { readonly [K in keyof S]: S[K] extends Field<infer T> ? T | undefined : never };

export function required<T>(read: Reader<T>, mend: string): Field<T> {
  return {
    read,
    absent: (property, sheet) => {
      sheet.problem(property, 'is missing', mend);
      return undefined;
    },
  };
}

export function optional<T>(read: Reader<T>): Field<T | null> {
  return { read, absent: () => null };
}

export function withDefault<T>(read: Reader<T>, value: NoInfer<T>): Field<T> {
  return { read, absent: () => value };
}

const EMPTY: Yaml = { kind: 'map', entries: new Map() };

/** A section that may be left out: then its fields have their defaults, and required ones are missing. */
export function section<T>(read: Reader<T>): Field<T> {
  return { read, absent: (property, sheet) => read(EMPTY, property, sheet) };
}

/** A section with exactly these fields; unknown ones are reported with the nearest known name. */
export function fields<S extends Shape>(shape: S): Reader<Draft<S>> {
  const known = Object.keys(shape);
  return (value, property, sheet) => {
    const entries = entriesOf(value, property, sheet);
    if (entries === undefined) return undefined;
    for (const name of entries.keys()) {
      if (!known.includes(name)) reportUnknown(name, known, property, sheet);
    }
    const read = Object.entries(shape).map(([name, field]) => {
      const at = joinProperty(property, name);
      const given = entries.get(name);
      return [name, given === undefined ? field.absent(at, sheet) : field.read(given, at, sheet)] as const;
    });
    return Object.fromEntries(read) as Draft<S>;
  };
}

function reportUnknown(name: string, known: readonly string[], property: string, sheet: Sheet): void {
  const at = joinProperty(property, name);
  if (name === '<<') {
    sheet.problem(at, 'is a merge key', 'write the settings out; merging is not done here');
    return;
  }
  const meant = nearest(name, known);
  const mend = meant === undefined ? `known here are ${known.join(', ')}` : `did you mean ${meant}?`;
  sheet.problem(at, 'is not a known setting', mend);
}

export interface ListItem<T> {
  readonly property: string;
  readonly value: T;
}

/**
 * A list whose faulty items are left out (they are reported), each with its place.
 * @param emptyMend - what to do about an empty list; without it a list may be empty.
 */
export function list<T>(item: Reader<T>, emptyMend?: string): Reader<readonly ListItem<T>[]> {
  return (value, property, sheet) => {
    if (value.kind !== 'list') {
      reportType(value, 'a list', 'put each item on a line of its own after "- "', property, sheet);
      return undefined;
    }
    if (value.items.length === 0 && emptyMend !== undefined) sheet.problem(property, 'is empty', emptyMend);
    return value.items.flatMap((entry, index) => {
      const at = `${property}[${index}]`;
      const read = item(entry, at, sheet);
      return read === undefined ? [] : [{ property: at, value: read }];
    });
  };
}

/** One value, or a list of at least one. */
export function oneOrMore<T>(item: Reader<T>, emptyMend: string): Reader<readonly ListItem<T>[]> {
  const many = list(item, emptyMend);
  return (value, property, sheet) => {
    if (value.kind === 'list') return many(value, property, sheet);
    const read = item(value, property, sheet);
    return read === undefined ? undefined : [{ property, value: read }];
  };
}

/** Names and values that the file chooses itself. */
export function mapping<T>(read: Reader<T>): Reader<ReadonlyMap<string, T>> {
  return (value, property, sheet) => {
    const given = entriesOf(value, property, sheet);
    if (given === undefined) return undefined;
    const entries = new Map<string, T>();
    for (const [name, entry] of given) {
      const one = read(entry, joinProperty(property, name), sheet);
      if (one !== undefined) entries.set(name, one);
    }
    return entries;
  };
}

function entriesOf(value: Yaml, property: string, sheet: Sheet): ReadonlyMap<string, Yaml> | undefined {
  if (value.kind === 'map') return value.entries;
  reportType(value, 'a section of named settings', 'write "name: value" lines, indented below it', property, sheet);
  return undefined;
}

function reportType(value: Yaml, wanted: string, mend: string, property: string, sheet: Sheet): void {
  if (value.kind === 'faulty') return;
  const fault = wrongType(value, wanted, mend);
  sheet.problem(property, fault.trouble, fault.mend);
}
