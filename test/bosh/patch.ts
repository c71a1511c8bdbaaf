/** Applies ops files to a manifest, for machines without the bosh CLI: the operations and paths that BOSH documents. */
import { isDeepStrictEqual } from 'node:util';

export type Node = null | boolean | number | string | Node[] | { [key: string]: Node };

export interface Operation {
  readonly type: string;
  readonly path: string;
  readonly value?: Node;
}

/** One step of a path: a key, a list's index, its end, or the entry with this key and value. */
type Step =
  | { readonly kind: 'key'; readonly key: string; readonly optional: boolean }
  | { readonly kind: 'index'; readonly index: number }
  | { readonly kind: 'end' }
  | {
      readonly kind: 'entry';
      readonly key: string;
      readonly value: string;
      readonly optional: boolean;
      readonly insert?: string;
    };

function steps(path: string): Step[] {
  if (!path.startsWith('/')) throw new Error(`the path ${path} does not start with /`);
  let optional = false;
  return path
    .slice(1)
    .split('/')
    .map((part): Step => {
      const [, bare = '', mark = '', insert] = /^(.*?)(\?)?(?::(before|after))?$/.exec(part) ?? [];
      // What comes after a part that need not exist need not exist either.
      optional ||= mark !== '';
      if (bare === '-') return { kind: 'end' };
      if (/^\d+$/.test(bare)) return { kind: 'index', index: Number(bare) };
      const equals = bare.indexOf('=');
      if (equals < 0) return { kind: 'key', key: bare, optional };
      const entry = { kind: 'entry', key: bare.slice(0, equals), value: bare.slice(equals + 1), optional } as const;
      return insert === undefined ? entry : { ...entry, insert };
    });
}

export function applyOperation(manifest: Node, { type, path, value }: Operation): void {
  if (type !== 'replace' && type !== 'remove') throw new Error(`the operation ${type} is not known`);
  if (path.includes('((')) throw new Error(`the path ${path} holds a variable`);
  const all = steps(path);
  let at = manifest;
  for (const [index, step] of all.entries()) {
    const fail = (why: string): never => {
      throw new Error(`${path}: ${why} at step ${index + 1}`);
    };
    const next = all[index + 1];
    if (step.kind === 'key') {
      if (at === null || typeof at !== 'object' || Array.isArray(at)) return fail('no mapping');
      const there = Object.hasOwn(at, step.key);
      if (!there && (type === 'remove' || !step.optional)) return fail(`no key ${step.key}`);
      if (next === undefined) {
        if (type === 'replace') at[step.key] = structuredClone(value ?? null);
        else Reflect.deleteProperty(at, step.key);
        return;
      }
      if (!there) at[step.key] = next.kind === 'key' ? {} : [];
      at = at[step.key] ?? null;
      continue;
    }
    if (!Array.isArray(at)) return fail('no list');
    if (step.kind === 'end') {
      if (type === 'remove' || next !== undefined) return fail('- stands for a new entry, and comes last');
      at.push(structuredClone(value ?? null));
      return;
    }
    const position = find(at, step, fail);
    if (next !== undefined) {
      at = at[position] ?? null;
    } else if (step.kind === 'entry' && step.insert !== undefined) {
      at.splice(step.insert === 'before' ? position : position + 1, 0, structuredClone(value ?? null));
      return;
    } else {
      at.splice(position, 1, ...(type === 'replace' ? [structuredClone(value ?? null)] : []));
      return;
    }
  }
}

function find(list: Node[], step: Extract<Step, { kind: 'index' | 'entry' }>, fail: (why: string) => never): number {
  if (step.kind === 'index') return step.index < list.length ? step.index : fail(`no entry ${step.index}`);
  const wanted = list.flatMap((entry, at) => {
    const fits =
      entry !== null &&
      typeof entry === 'object' &&
      !Array.isArray(entry) &&
      isDeepStrictEqual(entry[step.key], step.value);
    return fits ? [at] : [];
  });
  const [position] = wanted;
  if (position !== undefined && wanted.length === 1) return position;
  if (wanted.length > 1) return fail(`${wanted.length} entries with ${step.key}=${step.value}`);
  if (!step.optional) return fail(`no entry with ${step.key}=${step.value}`);
  return list.push({ [step.key]: step.value }) - 1;
}
