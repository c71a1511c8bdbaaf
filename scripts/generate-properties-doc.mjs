// Writes docs/properties.md from the spec files of the release's jobs.
//   node scripts/generate-properties-doc.mjs            writes it
//   node scripts/generate-properties-doc.mjs --check    fails when it is not as it would be written
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseDocument, stringify } from 'yaml';

const root = path.resolve(import.meta.dirname, '..');
const file = path.join(root, 'docs/properties.md');

const inline = (value) => `\`${JSON.stringify(value)}\``;
const isPlain = (value) => value === null || typeof value !== 'object';

function property(name, { description, example, ...rest }) {
  const lines = [`#### \`${name}\``, '', description.trim().replaceAll('\n', ' '), ''];
  if ('default' in rest)
    lines.push(`Default: ${isPlain(rest.default) ? `\`${rest.default}\`` : inline(rest.default)}`, '');
  if (isPlain(example)) lines.push(`Example: \`${example}\``, '');
  else lines.push('Example:', '', '```yaml', stringify(example).trimEnd(), '```', '');
  return lines;
}

function job(name) {
  const document = parseDocument(readFileSync(path.join(root, 'jobs', name, 'spec'), 'utf8'));
  const { description, properties } = document.toJS();
  const lines = [`## Job ${name}`, '', description.trim().replaceAll('\n', ' '), ''];
  const all = document.get('properties');
  for (const [index, { key }] of all.items.entries()) {
    // A comment before a property starts a group; the parser gives the first one to the mapping.
    const heading = (index === 0 ? all.commentBefore : key.commentBefore)?.trim();
    if (heading) lines.push(`### ${heading}`, '');
    lines.push(...property(key.value, properties[key.value]));
  }
  return lines;
}

const text = [
  '# Properties of the release',
  '',
  '<!-- Written by scripts/generate-properties-doc.mjs from jobs/*/spec: change it there. -->',
  '',
  'Faults in these properties stop a deployment while its templates render: all of them are named in one message. With a',
  'Director no VM has changed by then. `bosh create-env` has deleted the old VM: run `scripts/check-manifest` first, with the',
  'same arguments ([deploy.md](deploy.md#with-bosh-create-env)).',
  '',
  ...job('kms-plugin'),
  ...job('kms-plugin-smoke-tests'),
].join('\n');
const written = `${text.trimEnd()}\n`;

if (!process.argv.includes('--check')) writeFileSync(file, written);
else if (!existsSync(file) || readFileSync(file, 'utf8') !== written) {
  console.error('docs/properties.md is not what scripts/generate-properties-doc.mjs writes: run it');
  process.exitCode = 1;
}
