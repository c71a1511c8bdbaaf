/** Whatever stands in the file, the loader answers with a configuration or a ConfigError. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { ConfigError, loadConfig, type Config } from '../../src/config/index.ts';
import { Fixture } from './fixtures.ts';

const fixture = new Fixture();

function loadText(text: string | Uint8Array): Config | ConfigError {
  const file = fixture.write('kms-plugin.yml', text);
  try {
    return loadConfig(file);
  } catch (error) {
    assert.ok(error instanceof ConfigError, `not a ConfigError: ${String(error)}`);
    assert.ok(error.problems.length > 0);
    for (const { property, trouble, mend } of error.problems) {
      assert.ok(property !== '' && trouble !== '' && mend !== '');
    }
    assert.doesNotMatch(error.message, /undefined|\[object|NaN/);
    return error;
  }
}

const words = fc.constantFrom(
  '',
  'x',
  '0',
  '10s',
  '1MiB',
  '0600',
  'unix:///@a',
  'unix:///b',
  '../c',
  'v2',
  'active',
  'pin',
  '/',
  '/dev/null',
  '\0',
  '\ud800',
);
const leaf = fc.oneof(words, fc.string(), fc.integer(), fc.double(), fc.boolean(), fc.constant(null));
const anyYaml = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    leaf,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.dictionary(fc.string(), tie('value'), { maxKeys: 4 }),
  ),
})).value;

type Path = readonly (string | number)[];

/** Every place in a good configuration that a value can be put into. */
function places(value: unknown, at: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [at];
  const inner = Object.entries(value).flatMap(([name, entry]) =>
    places(entry, [...at, Array.isArray(value) ? Number(name) : name]),
  );
  return [at, ...inner];
}

function everything(): Record<string, unknown> {
  const raw = fixture.good();
  Object.assign(raw, {
    control_socket: 'state/c.sock',
    retired_keys: ['0'.repeat(32)],
    scheme: {
      name: 'envelope',
      data_key: 'reuse',
      max_age: '1h',
      max_values: 9,
      max_bytes: '1GiB',
      cache_size: 1,
      cache_ttl: 0,
    },
    limits: {
      call_deadline: '10s',
      hide: '2s',
      in_flight: 1,
      queued: 1,
      connections: 1,
      value: '1MiB',
      message: '4MiB',
      shutdown: '1s',
    },
    health: { address: '127.0.0.1', port: 1 },
    log: { level: 'info' },
  });
  Object.assign(raw.token, {
    environment: { A: 'b' },
    login: 'user',
    profile: 'auto',
    sessions: 1,
    vendor_timeout: '1s',
    pin_file_newline: 'keep',
    pin_despite_flag: true,
  });
  raw.listeners.forEach((listener) =>
    Object.assign(listener, { mode: '0600', patience: '1s', allow_unprotected: false }),
  );
  raw.keys.forEach((key) => Object.assign(key, { create: false, size: 256, mac_label: 'm', allow_unsafe: false }));
  return raw;
}

function put(value: unknown, at: Path, replacement: unknown): unknown {
  const [name, ...rest] = at;
  if (name === undefined) return replacement;
  if (Array.isArray(value))
    return value.map((entry: unknown, index) => (index === name ? put(entry, rest, replacement) : entry));
  const section = value as Record<string, unknown>;
  return { ...section, [name]: put(section[name], rest, replacement) };
}

test('the good configuration of these properties is good', () => {
  assert.equal(loadText(stringify(everything())) instanceof ConfigError, false);
});

test('any bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void loadText(bytes)),
    { numRuns: 300 },
  );
});

test('any text with the punctuation of YAML', () => {
  const piece = fc.constantFrom(
    'a',
    ': ',
    '- ',
    '\n',
    '  ',
    '{',
    '}',
    '[',
    ']',
    '"',
    "'",
    '&a ',
    '*a',
    '!t ',
    '|',
    '>',
    '#',
    '? ',
    ',',
    '<<',
    '---\n',
    '...',
    '%',
    '\t',
    '0',
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => void loadText(pieces.join(''))),
    { numRuns: 1000 },
  );
});

test('any YAML value', () => {
  fc.assert(
    fc.property(anyYaml, (value) => void loadText(stringify(value))),
    { numRuns: 500 },
  );
});

test('any YAML value in any one place of a good configuration', () => {
  const good = everything();
  fc.assert(
    fc.property(
      fc.constantFrom(...places(good)),
      anyYaml,
      (at, value) => void loadText(stringify(put(good, at, value))),
    ),
    { numRuns: 1000 },
  );
});
