import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { describe, test } from 'node:test';
import path from 'node:path';
import { checkConfig, ConfigError, describeProblem, loadConfig, locateService } from '../../src/config/index.ts';
import { Fixture, HOST, keyOf, listenerOf, type Raw } from './fixtures.ts';

const fixture = new Fixture();
const ID = '0123456789ABCDEF0123456789abcdef';

function load(change: (raw: Raw) => void = () => undefined): ReturnType<typeof loadConfig> {
  const raw = fixture.good();
  change(raw);
  fixture.check(raw);
  return loadConfig(fixture.at('kms-plugin.yml'));
}

describe('a good file', () => {
  test('has these defaults', () => {
    assert.deepEqual(load(), {
      file: fixture.at('kms-plugin.yml'),
      directory: fixture.directory,
      stateDir: fixture.at('state'),
      controlSocket: fixture.at('state/control.sock'),
      listeners: [
        {
          name: 'credhub',
          endpoint: { kind: 'path', path: fixture.at('run/credhub.sock') },
          apis: ['v1beta1'],
          tls: {
            certificateFile: fixture.at('server.crt'),
            privateKeyFile: fixture.at('server.key'),
            caFile: fixture.at('ca.crt'),
            host: HOST,
          },
          mode: 0o600,
          patienceMs: 300_000,
          allowUnprotected: false,
        },
        {
          name: 'kubernetes',
          endpoint: { kind: 'path', path: fixture.at('run/kubernetes.sock') },
          apis: ['v1beta1', 'v2'],
          mode: 0o600,
          patienceMs: 0,
          allowUnprotected: false,
        },
      ],
      token: {
        module: fixture.at('module.so'),
        partition: { by: 'label', label: 'credhub' },
        login: 'user',
        pinFile: fixture.at('pin'),
        environment: {},
        pinDespiteFlag: false,
        profile: 'auto',
        sessions: 16,
        vendorTimeoutMs: 20_000,
      },
      keys: [
        { label: 'key-2026', state: 'active', create: false, size: 256, allowUnsafe: false },
        { label: 'key-2024', state: 'decrypt', create: false, size: 256, allowUnsafe: false },
      ],
      retiredKeys: [],
      scheme: { name: 'direct', largeValues: 'data-key' },
      limits: {
        callDeadlineMs: 10_000,
        hideMs: 2_000,
        inFlight: 64,
        queued: 256,
        connections: 64,
        valueBytes: 1_048_576,
        messageBytes: 4_194_304,
        shutdownMs: 10_000,
      },
      health: { address: '127.0.0.1', port: 20_358 },
      log: { level: 'info' },
      warnings: [],
    });
  });

  test('may set everything', () => {
    const config = load((raw) => {
      Object.assign(raw, {
        control_socket: 'control/../state/c.sock',
        retired_keys: [ID],
        scheme: {
          name: 'envelope',
          data_key: 'per-value',
          max_age: '90m',
          max_values: 2 ** 32,
          max_bytes: '1GiB',
          cache_size: 5,
          cache_ttl: 0,
        },
        limits: {
          call_deadline: '1500ms',
          hide: 0,
          in_flight: 1,
          queued: 0,
          connections: 2,
          value: '2KiB',
          message: '3072B',
          shutdown: '1m',
        },
        health: { address: '::1', port: 0 },
        log: { level: 'debug' },
        audit: { file: 'audit.log' },
      });
      Object.assign(listenerOf(raw, 0), { mode: '660', patience: '10s' });
      Object.assign(listenerOf(raw, 1), { endpoint: 'unix:///@kms', allow_unprotected: true, patience: '1m' });
      Object.assign(raw.token, {
        partition: { slot: 3 },
        login: 0x80000001,
        pin_file_newline: 'keep',
        pin_despite_flag: true,
        environment: { SOFTHSM2_CONF: '/etc/x', EMPTY: '' },
        profile: 'cbc-hmac',
        sessions: 2,
        vendor_timeout: '30s',
      });
      Object.assign(keyOf(raw, 1), { key_id: 'F'.repeat(32), mac_label: 'mac', size: 128, allow_unsafe: true });
    });
    assert.equal(config.controlSocket, fixture.at('state/c.sock'));
    assert.deepEqual(config.retiredKeys, [ID.toLowerCase()]);
    assert.deepEqual(config.scheme, {
      name: 'envelope',
      largeValues: 'data-key',
      envelope: {
        dataKey: 'per-value',
        maxAgeMs: 5_400_000,
        maxValues: 4_294_967_296,
        maxBytes: 1_073_741_824,
        cacheSize: 5,
        cacheTtlMs: 0,
      },
    });
    assert.deepEqual(config.limits, {
      callDeadlineMs: 1500,
      hideMs: 0,
      inFlight: 1,
      queued: 0,
      connections: 2,
      valueBytes: 2048,
      messageBytes: 3072,
      shutdownMs: 60_000,
    });
    assert.deepEqual(config.health, { address: '::1', port: 0 });
    assert.equal(config.log.level, 'debug');
    assert.equal(config.auditFile, fixture.at('audit.log'));
    const [credhub, kubernetes] = config.listeners;
    assert.equal(credhub?.mode, 0o660);
    assert.equal(credhub.patienceMs, 10_000);
    assert.deepEqual(kubernetes?.endpoint, { kind: 'abstract', name: 'kms' });
    assert.deepEqual(config.token, {
      module: fixture.at('module.so'),
      partition: { by: 'slot', slot: '3' },
      login: 0x80000001,
      pinFile: fixture.at('pin'),
      pinFileNewline: 'keep',
      pinDespiteFlag: true,
      environment: { SOFTHSM2_CONF: '/etc/x', EMPTY: '' },
      profile: 'cbc-hmac',
      sessions: 2,
      vendorTimeoutMs: 30_000,
    });
    assert.deepEqual(config.keys[1], {
      label: 'key-2024',
      state: 'decrypt',
      create: false,
      keyId: 'f'.repeat(32),
      macLabel: 'mac',
      size: 128,
      allowUnsafe: true,
    });
    assert.match(config.warnings.join('\n'), /^listeners\[1\]\.endpoint .*abstract socket.*$/);
  });

  test('the envelope has defaults of its own', () => {
    assert.deepEqual(load((raw) => (raw['scheme'] = { name: 'envelope' })).scheme.envelope, {
      dataKey: 'reuse',
      maxAgeMs: 3_600_000,
      maxValues: 1_000_000,
      maxBytes: 68_719_476_736,
      cacheSize: 10_000,
      cacheTtlMs: 3_600_000,
    });
  });

  test('a token without login has no PIN, and one by serial number is found by it', () => {
    const { token } = load(
      (raw) => (raw.token = { module: 'module.so', partition: { serial: '0012' }, login: 'none' }),
    );
    assert.equal(token.login, 'none');
    assert.equal('pinFile' in token, false);
    assert.deepEqual(token.partition, { by: 'serial', serial: '0012' });
  });

  test('a PIN file may end in a line feed where the file says what it means', () => {
    const file = fixture.write('pin-lf', '1234\n');
    for (const newline of ['keep', 'strip'] as const) {
      const { token } = load((raw) => Object.assign(raw.token, { pin_file: file, pin_file_newline: newline }));
      assert.equal(token.pinFileNewline, newline);
    }
  });

  test('a socket path of 96 bytes is as long as can be', () => {
    const endpoint = path.join(fixture.directory, 'x'.repeat(95 - fixture.directory.length));
    assert.equal(endpoint.length, 96);
    const { listeners } = load((raw) => (listenerOf(raw, 0)['endpoint'] = endpoint));
    assert.deepEqual(listeners[0]?.endpoint, { kind: 'path', path: endpoint });
  });

  test('is checked without making anything', () => {
    const before = readdirSync(fixture.directory).sort();
    load();
    assert.deepEqual(readdirSync(fixture.directory).sort(), before);
    assert.deepEqual(readdirSync(fixture.at('run')), []);
  });
});

describe('a file with many faults', () => {
  const text = `
state_dri: state
listeners:
  - { name: credhub, endpoint: run/credhub.sock, apis: [v1], mode: 0600 }
  - { name: credhub, endpoint: run/credhub.sock, apis: [v2], colour: red }
token:
  module: other.so
  partition: { label: a, serial: b }
  sessions: "4"
keys:
  - { label: a, state: active }
  - { label: b, state: active, key_id: 12ab }
limits:
  value: 8MiB
log: { level: loud }
`;

  test('has all of them reported, in the order of its lines', () => {
    assert.deepEqual(
      fixture.checkText(text).problems.map(({ property, line }) => [property, line]),
      [
        ['state_dir', undefined],
        ['state_dri', 2],
        ['listeners[0].apis[0]', 4],
        ['listeners[0].mode', 4],
        ['listeners[1].colour', 5],
        ['listeners[1].name', 5],
        ['listeners[1].endpoint', 5],
        ['token.pin_file', 6],
        ['token.partition', 8],
        ['token.sessions', 9],
        ['keys', 10],
        ['keys[1].key_id', 12],
        ['limits.message', 13],
        ['log.level', 15],
      ],
    );
  });

  test('has what keeps no service from starting told apart', () => {
    const { contradictions } = fixture.checkText(text);
    assert.deepEqual(
      contradictions.map(({ property, line }) => [property, line]),
      [['token.module', 7]],
    );
  });

  test('is thrown as one error that reads well in a terminal', () => {
    const file = fixture.write('kms-plugin.yml', text);
    assert.throws(
      () => loadConfig(file),
      (error) => {
        assert.ok(error instanceof ConfigError);
        const lines = error.message.split('\n');
        assert.equal(lines[0], `${file}: 14 problems`);
        assert.equal(lines.length, 15);
        assert.equal(lines[14], '  log.level (line 15) is "loud": write one of error, warn, info, debug');
        return true;
      },
    );
  });
});

describe('where the running service is', () => {
  test('can be told from a file that is otherwise at fault', () => {
    const listeners = 'listeners: [{ tls: { certificate: a.crt, nonsense: 1 } }, {}]\n';
    const file = fixture.write('kms-plugin.yml', `state_dir: state\n${listeners}log: { level: loud }\n`);
    assert.deepEqual(locateService(file), {
      stateDir: fixture.at('state'),
      controlSocket: fixture.at('state/control.sock'),
      certificateFiles: [fixture.at('a.crt')],
    });
    fixture.write('kms-plugin.yml', 'state_dir: state\ncontrol_socket: c.sock\n');
    assert.equal(locateService(file).controlSocket, fixture.at('c.sock'));
  });

  test('cannot be told from one that does not say it, and then this alone is the problem', () => {
    for (const text of ['control_socket: 3\nstate_dir: state\n', 'keys: 3\n', 'state_dir: [\n']) {
      const file = fixture.write('kms-plugin.yml', text);
      assert.throws(() => locateService(file), { name: 'ConfigError', message: /: 1 problem\n {2}\S+/ });
    }
  });
});

describe('warnings, and no more than these, are given of', () => {
  const cases: readonly [string, (raw: Raw) => void, RegExp][] = [
    [
      'TLS where kube-apiserver is served',
      (raw) => (listenerOf(raw, 0)['apis'] = ['v2']),
      /^listeners\[0\]\.tls .*no TLS/,
    ],
    ['a socket for everyone', (raw) => (listenerOf(raw, 1)['mode'] = '0666'), /^listeners\[1\]\.mode .*every user/],
    [
      'a socket without access control',
      (raw) => Object.assign(listenerOf(raw, 1), { endpoint: 'unix:///@k', allow_unprotected: true }),
      /^listeners\[1\]\.endpoint .*every process in the network namespace can decrypt/,
    ],
    [
      'consent without need',
      (raw) => (listenerOf(raw, 1)['allow_unprotected'] = true),
      /^listeners\[1\]\.allow_unprotected .*no effect/,
    ],
    ['a PIN without login', (raw) => (raw.token['login'] = 'none'), /^token\.pin_file .*not used/],
    [
      'a PIN for everyone to read',
      (raw) => (raw.token['pin_file'] = fixture.write('pin-644', '1', 0o644)),
      /^token\.pin_file .*every user/,
    ],
    [
      'a secret in the environment',
      (raw) => (raw.token['environment'] = { HSM_PIN: '1' }),
      /^token\.environment\.HSM_PIN .*secret/,
    ],
    ['create left in', (raw) => (keyOf(raw, 0)['create'] = true), /^keys\[0\]\.create .*once the key exists/],
    ['a key retired twice', (raw) => (raw['retired_keys'] = [ID, ID]), /^retired_keys\[1\] .*repeats/],
    ['health for other hosts', (raw) => (raw['health'] = { address: '0.0.0.0' }), /^health\.address .*other hosts/],
    ['hiding beyond the deadline', (raw) => (raw['limits'] = { hide: '10s' }), /^limits\.hide /],
    ['settings of another scheme', (raw) => (raw['scheme'] = { max_age: '1h' }), /^scheme\.max_age .*no effect/],
    [
      'large values in an envelope',
      (raw) => (raw['scheme'] = { name: 'envelope', large_values: 'refuse' }),
      /^scheme\.large_values .*no effect/,
    ],
  ];
  for (const [what, change, pattern] of cases) {
    test(what, () => {
      const { warnings } = load(change);
      assert.equal(warnings.length, 1, warnings.join('\n'));
      assert.match(warnings[0] ?? '', pattern);
    });
  }

  test('a mode without a file', () => {
    const { warnings } = load((raw) =>
      Object.assign(listenerOf(raw, 1), { endpoint: 'unix:///@k', allow_unprotected: true, mode: '0600' }),
    );
    assert.equal(warnings.length, 2, warnings.join('\n'));
    assert.match(warnings[1] ?? '', /^listeners\[1\]\.mode .*no effect/);
  });
});

test('a key both listed and retired is what serve lives with, and no check of the file', () => {
  const raw = fixture.good();
  keyOf(raw, 0)['key_id'] = ID;
  raw['retired_keys'] = [ID.toLowerCase()];
  const { config, problems, contradictions } = fixture.check(raw);
  assert.ok(config !== undefined);
  assert.deepEqual(problems, []);
  assert.match(contradictions.map(describeProblem).join(), /^retired_keys\[0\] .*keys\[0\].*listed/);
});

describe('a file that is no configuration', () => {
  const cases: readonly [string, string | Uint8Array, RegExp, RegExp][] = [
    ['is empty', '', /kms-plugin\.yml$/, /is empty/],
    ['is comments only', '# nothing\n', /kms-plugin\.yml$/, /is empty/],
    ['is a list', '- a\n', /kms-plugin\.yml$/, /named settings/],
    ['is one word', 'credhub', /kms-plugin\.yml$/, /named settings/],
    ['is not UTF-8', Buffer.from([0x61, 0x3a, 0x20, 0xff]), /kms-plugin\.yml$/, /UTF-8/],
    ['has an open bracket', 'a: 1\nkeys: [\nb: 2\n', /kms-plugin\.yml:\d:\d+$/, /YAML/],
    ['is indented with a tab', 'token:\n\tmodule: x\n', /kms-plugin\.yml:2:1$/, /YAML/],
    ['has two documents', 'a: 1\n---\nb: 2\n', /kms-plugin\.yml:2:1$/, /YAML/],
    ['has a tag', 'a: !env PIN\n', /kms-plugin\.yml:1:4$/, /YAML/],
    ['is YAML 1.1', '%YAML 1.1\n---\na: 0600\n', /kms-plugin\.yml$/, /another YAML/],
    ['is nested beyond reason', '['.repeat(50_000), /kms-plugin\.yml:1:\d+$/, /YAML/],
    ['is enormous', `# ${'x'.repeat(1024 * 1024)}`, /kms-plugin\.yml$/, /larger than 1048576 bytes/],
  ];
  for (const [what, text, property, trouble] of cases) {
    test(what, () => {
      const { config, problems } = fixture.checkText(text);
      assert.equal(config, undefined);
      assert.match(problems[0]?.property ?? '', property);
      assert.match(problems[0]?.trouble ?? '', trouble);
    });
  }

  test('is not there, or is a directory', () => {
    assert.throws(() => loadConfig(fixture.at('none.yml')), /none\.yml does not exist: name a configuration file/);
    assert.throws(() => loadConfig(fixture.directory), ConfigError);
  });

  test('quotes nothing of what it holds, which may be a secret', () => {
    const { problems } = fixture.checkText('token:\n  pin: "hunter2\n');
    assert.equal(problems.length > 0, true);
    assert.doesNotMatch(JSON.stringify(problems), /hunter2/);
  });
});

describe("YAML's surprises are reported with their property", () => {
  const cases: readonly [string, string, string, RegExp][] = [
    ['a setting given twice', 'log: { level: info }\nlog: { level: debug }\n', 'log', /again on line 2/],
    ['a setting given twice further in', 'log:\n  level: info\n  level: debug\n', 'log.level', /again on line 3/],
    ['an alias', 'log: &x { level: info }\nhealth: *x\n', 'health', /alias/],
    ['an alias to nowhere', 'health: *x\n', 'health', /alias/],
    ['a merge key', 'log: { <<: { level: info } }\n', 'log["<<"]', /merge/],
    ['a set', 'log: !!binary aGVsbG8=\n', 'log', /./],
    ['a name that JavaScript would trip over', '__proto__: { log: 1 }\n', '__proto__', /not a known/],
  ];
  for (const [what, text, property, trouble] of cases) {
    test(what, () => {
      const problems = fixture.checkText(text).problems.filter((problem) => problem.property === property);
      assert.equal(problems.length, 1);
      assert.match(problems[0]?.trouble ?? '', trouble);
    });
  }

  test('anchors without an alias are harmless', () => {
    const { problems } = fixture.checkText('log: &x { level: info }\n');
    assert.deepEqual(
      problems.map(({ property }) => property),
      ['state_dir', 'listeners', 'token', 'keys'],
    );
  });
});

test('relative paths start from the directory of a link, not of its target, wherever the plugin is started', () => {
  fixture.check(fixture.good());
  const elsewhere = fixture.at('elsewhere');
  mkdirSync(elsewhere);
  symlinkSync(fixture.at('kms-plugin.yml'), path.join(elsewhere, 'link.yml'));
  const { contradictions } = checkConfig(path.relative(process.cwd(), path.join(elsewhere, 'link.yml')));
  const module = contradictions.find(({ property }) => property === 'token.module');
  assert.match(module?.trouble ?? '', new RegExp(`names ${elsewhere}/module\\.so, which does not exist`));
});

test('a module that is not there may come later: serve lives with it, check-config and a deployment do not', () => {
  const raw = fixture.good();
  raw.token['module'] = 'other.so';
  const { config, contradictions } = fixture.check(raw);
  assert.ok(config !== undefined);
  assert.match(contradictions.map(describeProblem).join(), /^token\.module .*other\.so, which does not exist: install/);
});
