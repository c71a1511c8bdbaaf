import { isAlias, isMap, isScalar, isSeq, LineCounter, parseDocument, type Document } from 'yaml';
import { readSmallFile } from '../files.ts';
import { shown, type Sheet } from '../problems.ts';

/** A whole number that a `number` would round is a `bigint`. */
export type Scalar = string | number | bigint | boolean | null;

/** What a YAML file holds, without YAML's surprises: no aliases, no merged or repeated keys, no tags. */
export type Yaml =
  | { readonly kind: 'map'; readonly entries: ReadonlyMap<string, Yaml> }
  | { readonly kind: 'list'; readonly items: readonly Yaml[] }
  | { readonly kind: 'scalar'; readonly value: Scalar }
  /** Already reported. */
  | { readonly kind: 'faulty' };

const MAX_BYTES = 1024 * 1024;

/** Reads and parses the file; undefined when there is nothing to go on with (reported). */
export function readDocument(sheet: Sheet): Yaml | undefined {
  const text = readText(sheet);
  return text === undefined ? undefined : parseText(text, sheet);
}

function readText(sheet: Sheet): string | undefined {
  const read = readSmallFile(sheet.file, MAX_BYTES);
  if ('trouble' in read) {
    sheet.problem(sheet.file, read.trouble, 'name a configuration file that the plugin can read');
    return undefined;
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(read.bytes);
  } catch {
    sheet.problem(sheet.file, 'is not UTF-8 text', 'save it as UTF-8');
    return undefined;
  }
}

function parseText(text: string, sheet: Sheet): Yaml | undefined {
  const lines = new LineCounter();
  // uniqueKeys is off because `convert` reports repeated keys itself, with their property and both lines. prettyErrors
  // is off because it quotes the file, and a file in disorder may hold anything.
  const document = parseDocument(text, {
    version: '1.2',
    lineCounter: lines,
    prettyErrors: false,
    stringKeys: true,
    intAsBigInt: true,
    uniqueKeys: false,
    merge: false,
  });
  for (const fault of [...document.errors, ...document.warnings]) {
    const { line, col } = lines.linePos(fault.pos[0]);
    sheet.problem(
      `${sheet.file}:${line}:${col}`,
      `is not the YAML wanted here (${fault.message})`,
      syntaxMend(fault.code),
    );
  }
  if (document.directives.yaml.explicit === true && document.directives.yaml.version !== '1.2') {
    sheet.problem(sheet.file, 'asks for another YAML than 1.2', 'remove the %YAML directive');
  }
  if (sheet.problems.length > 0) return undefined;
  return convertRoot(document, lines, sheet);
}

function syntaxMend(code: string): string {
  switch (code) {
    case 'MULTIPLE_DOCS':
      return 'keep one document and remove the rest';
    case 'TAG_RESOLVE_FAILED':
      return 'remove the tag';
    case 'TAB_AS_INDENT':
      return 'indent with blanks';
    case 'RESOURCE_EXHAUSTION':
      return 'it is nested too deeply; see docs/configuration.md for the layout';
    default:
      return 'mend the line; texts with special characters need quotes';
  }
}

function convertRoot(document: Document.Parsed, lines: LineCounter, sheet: Sheet): Yaml | undefined {
  const root = convert(document.contents, '', lines, sheet);
  if (root.kind === 'map') return root;
  if (root.kind === 'scalar' && root.value === null) {
    sheet.problem(sheet.file, 'is empty', 'start from the example in docs/configuration.md');
  } else if (root.kind !== 'faulty') {
    sheet.problem(sheet.file, 'does not hold named settings', 'start from the example in docs/configuration.md');
  }
  return undefined;
}

function convert(node: unknown, property: string, lines: LineCounter, sheet: Sheet): Yaml {
  if (node === null || node === undefined) return { kind: 'scalar', value: null };
  if (isAlias(node)) {
    sheet.problem(property || sheet.file, 'is an alias (*name)', 'write the value out; aliases are not taken here');
    return { kind: 'faulty' };
  }
  if (isMap(node)) return convertMap(node.items, property, lines, sheet);
  if (isSeq(node)) {
    return {
      kind: 'list',
      items: node.items.map((item, index) => {
        const at = `${property}[${index}]`;
        noteLine(at, item, lines, sheet);
        return convert(item, at, lines, sheet);
      }),
    };
  }
  if (isScalar(node) && isPlain(node.value)) return { kind: 'scalar', value: exact(node.value) };
  sheet.problem(property || sheet.file, 'has a tag (!!name)', 'remove the tag');
  return { kind: 'faulty' };
}

function convertMap(
  pairs: readonly { readonly key: unknown; readonly value: unknown }[],
  property: string,
  lines: LineCounter,
  sheet: Sheet,
): Yaml {
  const entries = new Map<string, Yaml>();
  for (const { key, value } of pairs) {
    const name = isScalar(key) ? String(key.value) : '';
    const at = joinProperty(property, name);
    if (entries.has(name)) {
      const line = lineOf(key, lines);
      sheet.problem(at, `is given twice${line === undefined ? '' : `, again on line ${line}`}`, 'keep one of the two');
      continue;
    }
    noteLine(at, key, lines, sheet);
    entries.set(name, convert(value, at, lines, sheet));
  }
  return { kind: 'map', entries };
}

/** `a.b`; a name with unusual characters stands in brackets, as JSON. */
export function joinProperty(section: string, name: string): string {
  if (!/^[\w-]{1,60}$/.test(name)) return `${section}[${shown(name)}]`;
  return section === '' ? name : `${section}.${name}`;
}

function noteLine(property: string, node: unknown, lines: LineCounter, sheet: Sheet): void {
  const line = lineOf(node, lines);
  if (line !== undefined) sheet.lines.set(property, line);
}

function lineOf(node: unknown, lines: LineCounter): number | undefined {
  const start = (node as { readonly range?: readonly number[] | null } | null | undefined)?.range?.[0];
  return start === undefined ? undefined : lines.linePos(start).line;
}

function isPlain(value: unknown): value is Scalar {
  return value === null || ['string', 'number', 'bigint', 'boolean'].includes(typeof value);
}

const exact = (value: Scalar): Scalar =>
  typeof value === 'bigint' && BigInt(Number(value)) === value && Number.isSafeInteger(Number(value))
    ? Number(value)
    : value;
