/** Renders a job's templates, as the Director or as `bosh create-env` would. */
import { spawnSync } from 'node:child_process';
import assert from 'node:assert/strict';
import path from 'node:path';

export const root = path.resolve(import.meta.dirname, '../..');

export interface Rendering {
  /** The job's name; kms-plugin if not given. */
  readonly job?: string;
  readonly properties: unknown;
  readonly mode?: 'director' | 'create-env';
  /** Fields of the instance, e.g. bootstrap. */
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly links?: Readonly<Record<string, unknown>>;
  /** A directory with the job, for jobs that are not this release's. */
  readonly directory?: string;
}

export interface Rendered {
  readonly files: Readonly<Record<string, string>>;
  readonly errors: readonly { readonly template: string; readonly message: string }[];
}

export function render(rendering: Rendering): Rendered {
  const [rendered] = renderAll([rendering]);
  assert.ok(rendered !== undefined);
  return rendered;
}

/** Many at once, for the price of one start of Ruby. */
export function renderAll(renderings: readonly Rendering[]): readonly Rendered[] {
  const requests = renderings.map(({ job = 'kms-plugin', directory, ...request }) => ({
    job: directory ?? path.join(root, 'jobs', job),
    ...request,
  }));
  const result = spawnSync('ruby', [path.join(root, 'scripts/lib/templates.rb')], {
    input: JSON.stringify(requests),
    encoding: 'utf8',
    // create-env renders with whatever Ruby and locale the operator's machine has.
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    maxBuffer: 64 * 1024 ** 2,
  });
  assert.equal(result.status, 0, result.stderr);
  return JSON.parse(result.stdout) as Rendered[];
}

/** The rendered files of properties that must be good. */
export function files(rendering: Rendering): Readonly<Record<string, string>> {
  return good(render(rendering));
}

export function good({ files: rendered, errors }: Rendered): Readonly<Record<string, string>> {
  assert.deepEqual(errors, []);
  return rendered;
}

/** The one message with which properties are refused. */
export function refusal(rendering: Rendering): string {
  return refused(render(rendering));
}

export function refused({ errors }: Rendered): string {
  assert.deepEqual(
    errors.map(({ template }) => template),
    ['properties.check.erb'],
    JSON.stringify(errors),
  );
  return errors[0]?.message ?? '';
}

export function file(rendered: Readonly<Record<string, string>>, name: string): string {
  const text = rendered[name];
  assert.ok(text !== undefined, `${name} was not rendered`);
  return text;
}
