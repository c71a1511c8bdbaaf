/** What the job's templates render, read back by those who will read it: the plugin, openssl, YAML, the vendors' formats. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { describe } from 'node:test';
import { parse } from 'yaml';
import { load } from './loaded.ts';
import { FAILURES } from '../../src/errors/index.ts';
import { file, files, good, refusal, renderAll, root } from './render.ts';
import { HOST, HSM_NAMES, otherTls, properties, tls } from './properties.ts';

const SOCKET = '/var/vcap/sys/run/kms-plugin/kms-plugin.sock';

describe('the plugin reads the rendered configuration', () => {
  for (const hsm of HSM_NAMES) {
    for (const mode of ['director', 'create-env'] as const) {
      test(`${hsm}, rendered by ${mode}`, () => {
        const rendered = files({ properties: properties(hsm), mode });
        const { config, cleanUp } = load(rendered);
        try {
          const [listener] = config.listeners;
          assert.deepEqual(listener?.apis, ['v1beta1']);
          assert.ok(listener.endpoint.kind === 'path' && listener.endpoint.path.endsWith(SOCKET.slice('/var'.length)));
          assert.equal(listener.tls?.host, HOST);
          assert.equal(listener.patienceMs, 300_000);
          assert.equal(listener.mode, 0o600);
          assert.deepEqual(
            config.keys.map(({ label, state, create }) => ({ label, state, create })),
            [{ label: 'credhub-1', state: 'active', create: false }],
          );
          assert.equal(config.token.pinDespiteFlag, hsm === 'luna', 'a challenge secret is the PIN on Luna only');
          assert.deepEqual(config.warnings, []);
        } finally {
          cleanUp();
        }
      });
    }
  }

  test('every value of the properties arrives, numbers as text where text is meant', () => {
    const keys = [
      { label: 2026, state: 'active', mac_label: 7, size: 128, allow_unsafe: true },
      { label: 'old', state: 'decrypt', key_id: '00000000000000000000000000000012' },
    ];
    const rendered = files({
      properties: properties('generic', {
        keys,
        retired_keys: ['0f3a5c7e9b1d2f4a6c8e0b2d4f6a8c0e'],
        patience: '15m',
        scheme: { name: 'direct', large_values: 'refuse' },
        environment: { ACME_THREADS: 4, ACME_CONF: '/var/vcap/data/kms-plugin/hsm/acme.conf' },
        generic: { partition: { serial: 815 } },
        token: { profile: 'cbc-hmac', sessions: 3, vendor_timeout: '40s', login: 0x80000001, pin_despite_flag: true },
        limits: {
          call_deadline: '9s',
          hide: 0,
          in_flight: 5,
          queued: 0,
          connections: 7,
          value: '2KiB',
          message: '3KiB',
          shutdown: '1s',
        },
        health: { address: '0.0.0.0', port: 20359 },
        log: { level: 'debug' },
      }),
    });
    const { config, cleanUp } = load(rendered);
    try {
      assert.deepEqual(
        config.keys.map(({ label, macLabel, keyId, size }) => [label, macLabel, keyId, size]),
        [
          ['2026', '7', undefined, 128],
          ['old', undefined, '00000000000000000000000000000012', 256],
        ],
      );
      assert.deepEqual(config.retiredKeys, ['0f3a5c7e9b1d2f4a6c8e0b2d4f6a8c0e']);
      assert.deepEqual(config.token.partition, { by: 'serial', serial: '815' });
      assert.equal(config.token.environment['ACME_THREADS'], '4');
      assert.equal(config.token.pinDespiteFlag, true);
      assert.deepEqual(
        [config.token.profile, config.token.sessions, config.token.vendorTimeoutMs, config.token.login],
        ['cbc-hmac', 3, 40_000, 0x80000001],
      );
      assert.deepEqual(config.limits, {
        callDeadlineMs: 9000,
        hideMs: 0,
        inFlight: 5,
        queued: 0,
        connections: 7,
        valueBytes: 2048,
        messageBytes: 3072,
        shutdownMs: 1000,
      });
      assert.deepEqual(config.health, { address: '0.0.0.0', port: 20359 });
      assert.equal(config.log.level, 'debug');
      assert.equal(config.listeners[0]?.patienceMs, 900_000);
      assert.equal(config.scheme.largeValues, 'refuse');
    } finally {
      cleanUp();
    }
  });
});

const PINS = {
  softhsm2: (pin: string) => ({ softhsm2: { pin } }),
  luna: (pin: string) => ({ luna: { partition_password: pin } }),
  cloudhsm: (pin: string) => ({ cloudhsm: { password: pin } }),
  nshield: (pin: string) => ({ nshield: { pin } }),
  generic: (pin: string) => ({ generic: { pin } }),
} as const;

describe('a PIN arrives byte for byte, and nowhere else', () => {
  const nasty = [
    'a"b\'c',
    '#{1 + 1}',
    '$HOME `id` $(id)',
    '<%= 1 %>',
    '%> -%>',
    'gr\u00fc\u00df \u{1f511} \u2028x',
    'a\\n\\x41',
    ' lead and trail ',
    'mid\ndle',
    '!ruby/object:X {}',
    '((var))',
  ];
  for (const hsm of HSM_NAMES) {
    test(hsm, () => {
      for (const mode of ['director', 'create-env'] as const) {
        const pins = nasty.map((one) => `${one}-Xq7`);
        const all = renderAll(pins.map((pin) => ({ properties: properties(hsm, PINS[hsm](pin)), mode })));
        for (const [index, pin] of pins.entries()) {
          const rendered = good(all[index] ?? assert.fail());
          assert.equal(file(rendered, 'config/pin'), hsm === 'cloudhsm' ? `credhub:${pin}` : pin);
          for (const [name, text] of Object.entries(rendered)) {
            if (name !== 'config/pin')
              assert.ok(
                !text.includes('-Xq7') && !text.includes(Buffer.from(pin).toString('base64').slice(0, 12)),
                name,
              );
          }
        }
      }
    });
  }

  test('one that ends in a line feed is a fault', () => {
    for (const hsm of HSM_NAMES) {
      assert.match(
        refusal({ properties: properties(hsm, PINS[hsm]('12345678\n')) }),
        /ends with a line feed: in the manifest/,
      );
    }
  });
});

test('secrets are in files for secrets only', () => {
  const marks = { key: tls.private_key.split('\n')[1] ?? '', client: otherTls.private_key.split('\n')[1] ?? '' };
  const rendered = files({
    properties: properties('luna', {
      luna: { client_key: otherTls.private_key },
      files: [{ path: 'secret.conf', content: 'T0p' }],
    }),
  });
  const holding = (mark: string): string[] =>
    Object.entries(rendered)
      .filter(([, text]) => text.includes(mark))
      .map(([name]) => name);
  assert.deepEqual(holding(marks.key), ['config/server.key']);
  assert.deepEqual(holding(marks.client), ['config/luna/client.key']);
  assert.deepEqual(holding(Buffer.from('T0p').toString('base64')), ['config/files']);
  // Scripts and BPM's file are read by more people, and end up in process lists.
  assert.ok(Object.keys(rendered).filter((name) => name.startsWith('bin/')).length >= 4);
});

test('openssl takes the rendered TLS files', () => {
  const rendered = files({ properties: properties('softhsm2') });
  const directory = mkdtempSync(path.join(tmpdir(), 'kms-tls-'));
  try {
    for (const name of ['server.crt', 'server.key', 'ca.crt'])
      writeFileSync(path.join(directory, name), file(rendered, `config/${name}`));
    const openssl = (...words: string[]): string =>
      execFileSync('openssl', words, { cwd: directory, encoding: 'utf8' });
    assert.match(openssl('verify', '-CAfile', 'ca.crt', '-verify_hostname', HOST, 'server.crt'), /: OK/);
    assert.equal(
      openssl('x509', '-in', 'server.crt', '-pubkey', '-noout'),
      openssl('pkey', '-in', 'server.key', '-pubout'),
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});

describe('instances', () => {
  test('SoftHSM2 is refused with more than one', () => {
    assert.match(
      refusal({ properties: properties('softhsm2'), spec: { bootstrap: false, index: 1 } }),
      /kms-plugin\.hsm is softhsm2, a trial for one instance/,
    );
  });

  test('only the bootstrap instance makes a missing key', () => {
    const create = (bootstrap: boolean): unknown => {
      const rendered = files({
        properties: properties('luna', { keys: [{ label: 'a', state: 'active', create: true }] }),
        spec: { bootstrap },
      });
      return (parse(file(rendered, 'config/kms-plugin.yml')) as { keys: { create: unknown }[] }).keys[0]?.create;
    };
    assert.deepEqual([create(true), create(false)], [true, false]);
  });
});

test('a CA that is being rotated: two certificates in ca, and an intermediate after the server certificate', () => {
  files({ properties: properties('luna', { tls: { ca: otherTls.ca + tls.ca } }) });
  files({ properties: properties('luna', { tls: { certificate: tls.certificate + otherTls.ca } }) });
});

test('drain prints 0 and changes nothing', () => {
  const script = file(files({ properties: properties('luna') }), 'bin/drain');
  assert.equal(execFileSync('bash', ['-c', script], { encoding: 'utf8' }), '0\n');
});

test('every script is one that bash can read', () => {
  for (const hsm of HSM_NAMES) {
    const rendered = {
      ...files({ properties: properties(hsm) }),
      ...files({ job: 'kms-plugin-smoke-tests', properties: {} }),
    };
    for (const [name, text] of Object.entries(rendered)) {
      if (name.startsWith('bin/')) execFileSync('bash', ['-n'], { input: text });
    }
  }
});

describe('what is said of the configuration, in the names of the properties', () => {
  const named = (rendered: Readonly<Record<string, string>>, lines: readonly string[]): string[] => {
    const directory = mkdtempSync(path.join(tmpdir(), 'kms-names-'));
    try {
      writeFileSync(path.join(directory, 'names.sed'), file(rendered, 'config/names.sed'));
      const options = { cwd: directory, input: lines.join('\n'), encoding: 'utf8' } as const;
      return execFileSync('sed', ['-E', '-f', 'names.sed'], options).split('\n');
    } finally {
      rmSync(directory, { recursive: true });
    }
  };
  const known = Object.keys(
    (parse(readFileSync(path.join(root, 'jobs/kms-plugin/spec'), 'utf8')) as { properties: object }).properties,
  );

  test('every field that the job renders has the name of a property', () => {
    const change = {
      keys: [{ label: 'a', state: 'active', key_id: '0f3a5c7e9b1d2f4a6c8e0b2d4f6a8c0e' }],
      retired_keys: ['0f3a5c7e9b1d2f4a6c8e0b2d4f6a8c0f'],
      audit: { enabled: true },
    };
    const all = renderAll(HSM_NAMES.map((hsm) => ({ properties: properties(hsm, change) })));
    for (const [at, hsm] of HSM_NAMES.entries()) {
      const rendered = good(all[at] ?? assert.fail());
      const leaves = (node: unknown, at: string): string[] => {
        if (Array.isArray(node)) return node.flatMap((entry, index) => leaves(entry, `${at}[${index}]`));
        if (typeof node !== 'object' || node === null) return [at];
        return Object.entries(node).flatMap(([key, value]) => leaves(value, at === '' ? key : `${at}.${key}`));
      };
      const fields = leaves(parse(file(rendered, 'config/kms-plugin.yml')), '').filter(
        // What the job decides by itself.
        (field) => !/^(state_dir|listeners\[0\]\.(name|apis|mode)|token\.environment)/.test(field),
      );
      assert.ok(fields.length > 20);
      for (const [index, property] of named(rendered, fields).entries()) {
        const whole = property.replace(/\[\d+\].*$/, '');
        assert.ok(
          known.some((name) => name === whole || whole.startsWith(`${name}.`)),
          `${hsm}: ${fields[index] ?? ''} -> ${property}`,
        );
      }
    }
  });

  test('within a sentence, and not twice', () => {
    const said = [
      'put the right PIN into pin_file; token.pin_file (line 3), kms-plugin.token.profile, scheme 4, keys list',
      '  keys has none',
    ];
    assert.deepEqual(named(files({ properties: properties('luna') }), said), [
      'put the right PIN into kms-plugin.luna.partition_password; kms-plugin.luna.partition_password (line 3), kms-plugin.token.profile, scheme 4, keys list',
      '  kms-plugin.keys has none',
    ]);
  });
});

test('post-start ends at once for each failure that no waiting ends, and for no other', () => {
  const script = file(files({ properties: properties('luna') }), 'bin/post-start');
  const codes = /hopeless='KMS-\(([\d|]+)\)/
    .exec(script)?.[1]
    ?.split('|')
    .map((code) => `KMS-${code}`);
  const hopeless = Object.values(FAILURES).filter(
    ({ status, waitable }) => (status === 'FAILED_PRECONDITION' || status === 'INVALID_ARGUMENT') && !waitable,
  );
  assert.deepEqual(codes?.sort(), hopeless.map(({ code }): string => code).sort());
});

test('monit waits for the very directories that BPM would leave out of the container', () => {
  const changes = [
    {},
    { module: '/opt/acme/lib/libacme.so' },
    { volumes: [{ path: '/srv/acme', writable: true }, { path: '/etc/acme' }] },
  ];
  const all = renderAll(HSM_NAMES.flatMap((hsm) => changes.map((change) => ({ properties: properties(hsm, change) }))));
  for (const rendered of all.map(good)) {
    const [process] = (
      parse(file(rendered, 'config/bpm.yml')) as {
        processes: [{ unsafe?: { unrestricted_volumes: { path: string }[] } }];
      }
    ).processes;
    const waited = [...file(rendered, 'monit').matchAll(/^check directory \S+ with path "([^"]+)"$/gm)].map(
      ([, at]) => at,
    );
    assert.deepEqual(waited.sort(), (process.unsafe?.unrestricted_volumes ?? []).map(({ path: at }) => at).sort());
  }
});
