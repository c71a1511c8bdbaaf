/** docs/configuration.md says what the loader does. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { parse } from 'yaml';
import { Fixture } from './fixtures.ts';

const page = readFileSync(path.resolve(import.meta.dirname, '../../docs/configuration.md'), 'utf8');
const example = /```yaml\n([^]*?)```/.exec(page)?.[1] ?? '';
const rows = new Map(
  [...page.matchAll(/^\| `([a-z_.[\]]+)` \| ([^|]+)\| ([^|]*)\|/gm)].map((row) => [
    row[1] ?? '',
    (row[3] ?? '').trim(),
  ]),
);

const fixture = new Fixture();
const there = new Fixture();
there.certify('server', { names: 'DNS:kms-plugin.internal', issuer: there.ca });
mkdirSync(there.at('var'));

/** The example with the directories of this test in place of the system's. */
const placed = (text: string): string =>
  text
    .replaceAll('/var/lib/kms-plugin', there.at('var/state'))
    .replaceAll('/run/kms-plugin', there.at('run'))
    .replaceAll('/usr/lib/softhsm/libsofthsm2.so', there.at('module.so'));

describe('docs/configuration.md', () => {
  test('has an example without fault or warning, whose settings are the defaults', () => {
    const { config, problems, warnings } = there.checkText(placed(example));
    assert.deepEqual({ problems, warnings }, { problems: [], warnings: [] });
    assert.ok(config);
    const plain = fixture.check(fixture.good()).config;
    assert.ok(plain);
    const { sessions, vendorTimeoutMs, profile, login } = plain.token;
    assert.deepEqual(
      [config.limits, config.scheme, config.health, config.log, config.retiredKeys],
      [plain.limits, plain.scheme, plain.health, plain.log, plain.retiredKeys],
    );
    assert.deepEqual({ ...config.token, sessions, vendorTimeoutMs, profile, login }, config.token);
    assert.deepEqual(
      config.listeners.map(({ mode, patienceMs, allowUnprotected }) => [mode, patienceMs, allowUnprotected]),
      plain.listeners.map(({ mode, patienceMs, allowUnprotected }) => [mode, patienceMs, allowUnprotected]),
    );
    assert.equal(config.controlSocket, path.join(config.stateDir, 'control.sock'));
  });

  test("names the envelope's defaults", () => {
    const settings = ['data_key', 'max_age', 'max_values', 'max_bytes', 'cache_size', 'cache_ttl'];
    const documented = Object.fromEntries(
      settings.map((name) => [name, parse((rows.get(`scheme.${name}`) ?? '').replaceAll('`', '')) as unknown]),
    );
    const commented = Object.fromEntries(
      settings.map((name) => [name, parse(new RegExp(`# ${name}: (.*)`).exec(example)?.[1] ?? '') as unknown]),
    );
    assert.deepEqual(commented, documented);
    const explicit = fixture.check({ ...fixture.good(), scheme: { name: 'envelope', ...documented } });
    const implicit = fixture.check({ ...fixture.good(), scheme: { name: 'envelope' } });
    assert.ok(explicit.config?.scheme.envelope);
    assert.deepEqual(explicit.config.scheme, implicit.config?.scheme);
  });

  test('has a row for each setting, and no other', () => {
    assert.deepEqual([...rows.keys()].sort(), knownSettings().sort());
  });

  test('shows problems as they are reported', () => {
    const raw = fixture.good();
    raw.listeners.forEach((listener) => (listener['mode'] = 600));
    raw.keys.forEach((key, index) => Object.assign(key, { state: 'active', label: `credhub-${2026 - 2 * index}` }));
    raw.token['pin_file'] = fixture.write('pin-lf', '1\n');
    const shown = fixture
      .check(raw)
      .problems.map(({ trouble, mend }) => `${trouble}: ${mend}`.replace(fixture.at('pin-lf'), '/etc/kms-plugin/pin'));
    for (const text of new Set(shown)) assert.ok(page.includes(text), text);
  });
});

/** What the loader itself says is known, by section. */
function knownSettings(): string[] {
  const unknown = { zzzzzzzzzzzz: 1 };
  const { problems } = fixture.check({
    ...unknown,
    state_dir: 'state',
    listeners: [{ ...unknown, tls: unknown }],
    token: { ...unknown, partition: unknown },
    keys: [unknown],
    scheme: unknown,
    limits: unknown,
    health: unknown,
    log: unknown,
    audit: unknown,
  });
  return problems.flatMap(({ property, mend }) => {
    const known = /^known here are (.*)$/.exec(mend)?.[1];
    const section = property.replace('zzzzzzzzzzzz', '').replaceAll(/\[\d\]/g, '[]');
    return known === undefined ? [] : known.split(', ').map((name) => section + name);
  });
}
