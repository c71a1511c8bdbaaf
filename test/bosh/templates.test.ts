/** What the job's templates render, read back by those who will read it: the plugin, openssl, YAML, the vendors' formats. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { describe } from 'node:test';
import { parse } from 'yaml';
import { checkConfig } from '../../src/config/index.ts';
import type { Config } from '../../src/config/index.ts';
import { file, files, good, refusal, refused, render, renderAll, root } from './render.ts';
import { HOST, HSM_NAMES, HSMS, otherTls, properties, tls, type HsmName } from './properties.ts';
import { makeCertificate } from './certificates.ts';

const SOCKET = '/var/vcap/sys/run/kms-plugin/kms-plugin.sock';

/** Lays the rendered job out under another root than /, and reads it with the plugin's own reader. */
function load(rendered: Readonly<Record<string, string>>): { config: Config; cleanUp: () => void } {
  const elsewhere = mkdtempSync(path.join(tmpdir(), 'kms-vm-'));
  const moved = (text: string): string =>
    text.replaceAll('/var/vcap', `${elsewhere}/vcap`).replaceAll('/opt/', `${elsewhere}/opt/`);
  const job = path.join(elsewhere, 'vcap/jobs/kms-plugin');
  for (const [name, text] of Object.entries(rendered)) {
    mkdirSync(path.dirname(path.join(job, name)), { recursive: true });
    writeFileSync(path.join(job, name), name === 'config/pin' ? text : moved(text), { mode: 0o640 });
  }
  for (const directory of ['vcap/data/kms-plugin', 'vcap/sys/run/kms-plugin']) {
    mkdirSync(path.join(elsewhere, directory), { recursive: true });
  }
  const written = parse(file(rendered, 'config/kms-plugin.yml')) as { token: { module: string } };
  const module = moved(written.token.module);
  mkdirSync(path.dirname(module), { recursive: true });
  writeFileSync(module, '');
  const cleanUp = (): void => rmSync(elsewhere, { recursive: true });
  const { config, problems } = checkConfig(path.join(job, 'config/kms-plugin.yml'));
  if (config !== undefined) return { config, cleanUp };
  cleanUp();
  assert.fail(`the plugin refuses what was rendered: ${JSON.stringify(problems, null, 1)}`);
}

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
        token: { profile: 'cbc-hmac', sessions: 3, vendor_timeout: '40s', login: 0x80000001 },
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

describe('the vendors\u2019 configuration, read by a parser of each format', () => {
  test('Luna: Chrystoki.conf', () => {
    const text = file(files({ properties: properties('luna') }), 'config/luna/Chrystoki.conf');
    const sections = parseChrystoki(text);
    const config = '/var/vcap/jobs/kms-plugin/config/luna';
    const client = '/var/vcap/packages/luna-hsm-client-7.4';
    assert.equal(sections['Chrystoki2']?.['LibUNIX64'], `${client}/libs/64/libCryptoki2.so`);
    assert.deepEqual(sections['LunaSA Client'], {
      ReceiveTimeout: '5000',
      SSLConfigFile: `${client}/bin/64/openssl.cnf`,
      ClientPrivKeyFile: `${config}/client.key`,
      ClientCertFile: `${config}/client.crt`,
      ServerCAFile: `${config}/servers.crt`,
      NetClient: '1',
      TCPKeepAlive: '1',
      ServerName00: '10.0.1.1',
      ServerPort00: '1792',
      ServerHtl00: '0',
      ServerName01: '10.0.1.2',
      ServerPort01: '1792',
      ServerHtl01: '0',
    });
    assert.deepEqual(sections['VirtualToken'], {
      VirtualToken00Label: 'my-hsm-partition',
      VirtualToken00SN: '1123123',
      VirtualToken00Members: '123123,456456',
      VirtualTokenActiveRecovery: 'activeEnhanced',
    });
    assert.deepEqual(sections['HASynchronize'], { 'my-hsm-partition': '1' });
    assert.equal(sections['HAConfiguration']?.['HAOnly'], '1');
    assert.ok(!text.includes('\t'), 'the Luna client takes no tab characters');
  });

  test('Luna: a dead member costs less than a call may last, and the plugin outwaits the library', () => {
    const { config, cleanUp } = load(files({ properties: properties('luna') }));
    cleanUp();
    const receive = Number(
      parseChrystoki(file(files({ properties: properties('luna') }), 'config/luna/Chrystoki.conf'))['LunaSA Client']?.[
        'ReceiveTimeout'
      ],
    );
    assert.ok(receive < config.limits.callDeadlineMs && receive < Math.max(30_000, 2 * config.token.vendorTimeoutMs));
    assert.match(
      refusal({ properties: properties('luna', { luna: { receive_timeout: 50_000 } }) }),
      /kms-plugin\.luna\.receive_timeout is 50000 ms: the library would be killed/,
    );
    files({ properties: properties('luna', { luna: { receive_timeout: 50_000 }, token: { vendor_timeout: '30s' } }) });
  });

  test('Luna: certificates and module', () => {
    const rendered = files({ properties: properties('luna') });
    assert.equal(file(rendered, 'config/luna/client.crt'), tls.certificate);
    assert.equal(file(rendered, 'config/luna/client.key'), tls.private_key);
    assert.equal(file(rendered, 'config/luna/servers.crt'), tls.ca + otherTls.ca);
    const { token } = parse(file(rendered, 'config/kms-plugin.yml')) as { token: Record<string, unknown> };
    assert.equal(token['module'], '/var/vcap/packages/luna-hsm-client-7.4/libs/64/libCryptoki2.so');
    assert.deepEqual(token['environment'], { ChrystokiConfigurationPath: '/var/vcap/jobs/kms-plugin/config/luna' });
    assert.deepEqual(token['partition'], { label: 'my-hsm-partition' });
  });

  test('AWS CloudHSM: cloudhsm-pkcs11.cfg', () => {
    const rendered = files({ properties: properties('cloudhsm') });
    assert.deepEqual(JSON.parse(file(rendered, 'config/cloudhsm/cloudhsm-pkcs11.cfg')), {
      clusters: [
        {
          type: 'hsm1',
          cluster: {
            hsm_ca_file: '/opt/cloudhsm/etc/customerCA.crt',
            servers: [
              { hostname: '10.0.1.1', port: 2223, enable: true },
              { hostname: '10.0.2.1', port: 2224, enable: true },
            ],
            options: { disable_key_availability_check: true },
          },
        },
      ],
      logging: { log_type: 'term', log_level: 'warn' },
    });
    assert.equal(file(rendered, 'config/cloudhsm/customerCA.crt'), tls.ca);
  });

  test('nShield: cknfastrc', () => {
    const lines = file(files({ properties: properties('nshield') }), 'config/nshield/cknfastrc')
      .trimEnd()
      .split('\n');
    const read = Object.fromEntries(
      lines.map((line) => /^(\w+)=(.*)$/.exec(line)?.slice(1) ?? assert.fail(line)),
    ) as unknown;
    assert.deepEqual(read, {
      CKNFAST_FAKE_ACCELERATOR_LOGIN: '1',
      CKNFAST_LOADSHARING: '1',
      NFAST_SERVER_PORT: '9000',
    });
  });

  test('SoftHSM2: softhsm2.conf', () => {
    const lines = file(files({ properties: properties('softhsm2') }), 'config/softhsm2.conf')
      .trimEnd()
      .split('\n');
    const read = Object.fromEntries(
      lines.map((line) => /^([\w.]+) = (\S+)$/.exec(line)?.slice(1) ?? assert.fail(line)),
    ) as unknown;
    assert.deepEqual(read, {
      'directories.tokendir': '/var/vcap/store/kms-plugin/tokens',
      'objectstore.backend': 'file',
      'log.level': 'ERROR',
      'slots.removable': 'false',
    });
  });

  test('each is empty for every other HSM', () => {
    const own: Record<string, HsmName> = {
      'config/softhsm2.conf': 'softhsm2',
      'config/luna/Chrystoki.conf': 'luna',
      'config/luna/client.crt': 'luna',
      'config/luna/client.key': 'luna',
      'config/luna/servers.crt': 'luna',
      'config/cloudhsm/cloudhsm-pkcs11.cfg': 'cloudhsm',
      'config/cloudhsm/customerCA.crt': 'cloudhsm',
      'config/nshield/cknfastrc': 'nshield',
    };
    for (const hsm of HSM_NAMES) {
      const rendered = files({ properties: properties(hsm) });
      for (const [name, owner] of Object.entries(own))
        assert.equal(file(rendered, name).trim() === '', owner !== hsm, `${name} for ${hsm}`);
    }
  });
});

/** Sections of `name = { key = value; }`, as the Luna client reads them. */
function parseChrystoki(text: string): Record<string, Record<string, string>> {
  const sections: Record<string, Record<string, string>> = {};
  const rest = text.replace(/([^={}\n]+?) = \{\n((?: {2}[^;{}\n]+;\n)*)\}\n/g, (_all, name: string, body: string) => {
    sections[name] = Object.fromEntries(
      body
        .trimEnd()
        .split('\n')
        .map((line) => {
          const [key = '', value = ''] = line.trim().slice(0, -1).split(' = ');
          return [key, value];
        }),
    );
    return '';
  });
  assert.equal(rest.trim(), '', 'all of the file is sections');
  return sections;
}

describe('bpm.yml', () => {
  interface Bpm {
    processes: [
      {
        name: string;
        executable: string;
        args: string[];
        ephemeral_disk: boolean;
        persistent_disk?: boolean;
        additional_volumes: { path: string; writable?: boolean; mount_only?: boolean }[];
        limits: { memory: string; open_files: number; core_file_size: number };
        unsafe?: { unrestricted_volumes: { path: string }[] };
      },
    ];
  }
  const bpm = (hsm: HsmName, change = {}): Bpm['processes'][0] =>
    (parse(file(files({ properties: properties(hsm, change) }), 'config/bpm.yml')) as Bpm).processes[0];

  test('mounts what is declared, and has no core files', () => {
    const process = bpm('luna');
    assert.deepEqual(
      [process.name, process.executable, process.args],
      ['kms-plugin', '/var/vcap/jobs/kms-plugin/bin/kms-plugin', ['serve']],
    );
    assert.deepEqual(process.additional_volumes, [{ path: path.dirname(SOCKET), writable: true }]);
    assert.equal(process.ephemeral_disk, true);
    assert.equal(process.limits.core_file_size, 0);
    assert.equal(process.unsafe, undefined);
  });

  test('a persistent disk for SoftHSM2 only', () => {
    for (const hsm of HSM_NAMES) assert.equal(bpm(hsm).persistent_disk, hsm === 'softhsm2' ? true : undefined);
  });

  test('libraries outside the system and /var/vcap are mounted, executable', () => {
    const volumes = (hsm: HsmName, change = {}): unknown => bpm(hsm, change).unsafe?.unrestricted_volumes;
    assert.deepEqual(volumes('generic'), undefined);
    assert.deepEqual(volumes('generic', { module: '/usr/lib/acme/libacme.so' }), undefined);
    assert.deepEqual(
      volumes('generic', {
        module: '/opt/acme/lib/libacme.so',
        files: [{ path: '/opt/acme/etc/a.conf', content: '' }],
      }),
      [
        { path: '/opt/acme/lib', allow_executions: true },
        { path: '/opt/acme/etc', allow_executions: true },
      ],
    );
    assert.deepEqual(volumes('cloudhsm'), [{ path: '/opt/cloudhsm', writable: true, allow_executions: true }]);
    assert.deepEqual(volumes('nshield', { volumes: [{ path: '/srv/x', writable: true }] }), [
      { path: '/opt/nfast', writable: true, allow_executions: true },
      { path: '/dev/nfast', writable: true },
      { path: '/srv/x', writable: true },
    ]);
  });
});

describe('faults in properties', () => {
  test('are all named, in one message, by one template', () => {
    const message = refusal({ properties: {} });
    for (const name of ['tls.certificate', 'tls.private_key', 'tls.ca', 'keys', 'hsm'])
      assert.match(message, new RegExp(`kms-plugin\\.${name} is missing`));
    // Under create-env just as well.
    assert.equal(refusal({ properties: {}, mode: 'create-env' }), message);
  });

  const many = makeCertificate([]);
  const faults: [string, HsmName, object, RegExp][] = [
    [
      'socket with unix://',
      'luna',
      { socket_endpoint: 'unix:///var/vcap/sys/run/kms-plugin/a.sock' },
      /kms-plugin\.socket_endpoint starts with unix:/,
    ],
    [
      'socket in a shared directory',
      'luna',
      { socket_endpoint: '/var/vcap/sys/run/a.sock' },
      /socket_endpoint must be a path below a directory of its own/,
    ],
    [
      'socket in the job\u2019s data directory',
      'luna',
      { socket_endpoint: '/var/vcap/data/kms-plugin/a.sock' },
      /must not lie in \/var\/vcap\/data\/kms-plugin itself/,
    ],
    [
      'socket beside the state',
      'luna',
      { socket_endpoint: '/var/vcap/data/kms-plugin/state/a.sock' },
      /which has another use/,
    ],
    ['socket with ..', 'luna', { socket_endpoint: '/var/vcap/sys/run/x/../y/a.sock' }, /must be a path below/],
    [
      'socket too long',
      'luna',
      { socket_endpoint: `/var/vcap/sys/run/${'x'.repeat(80)}/a.sock` },
      /socket_endpoint is 105 bytes long/,
    ],
    [
      'host not in the certificate',
      'luna',
      { host: 'credhub.internal' },
      /kms-plugin\.host is credhub\.internal, which is not among the certificate's DNS names \(kms-plugin\.internal\)/,
    ],
    ['no DNS names at all', 'luna', { tls: many }, /\(it has none\)/],
    [
      'another key',
      'luna',
      { tls: { private_key: otherTls.private_key } },
      /kms-plugin\.tls\.private_key does not belong to/,
    ],
    [
      'another CA',
      'luna',
      { tls: { ca: otherTls.ca } },
      /kms-plugin\.tls\.ca did not sign kms-plugin\.tls\.certificate/,
    ],
    [
      'no PEM',
      'luna',
      { tls: { certificate: 'abc', ca: 'x' } },
      /tls\.certificate holds no PEM certificate; kms-plugin\.tls\.ca holds no PEM/,
    ],
    [
      'broken PEM',
      'luna',
      { tls: { certificate: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----' } },
      /tls\.certificate holds a certificate that cannot be read/,
    ],
    ['no private key', 'luna', { tls: { private_key: 'abc' } }, /tls\.private_key holds no private key/],
    ['not text', 'luna', { tls: { certificate: { a: 1 } } }, /tls\.certificate must be text, and is a hash/],
    ['run out', 'luna', { tls: makeCertificate([HOST], -1) }, /tls\.certificate ran out on/],
    ['patience without unit', 'luna', { patience: 300 }, /kms-plugin\.patience is 300: give a number and its unit/],
    [
      'no active key',
      'luna',
      { keys: [{ label: 'a', state: 'decrypt' }] },
      /kms-plugin\.keys has 0 keys with state: active/,
    ],
    [
      'two active keys',
      'luna',
      {
        keys: [
          { label: 'a', state: 'active' },
          { label: 'b', state: 'active' },
        ],
      },
      /has 2 keys with state: active/,
    ],
    ['keys not a list', 'luna', { keys: { label: 'a' } }, /kms-plugin\.keys must be a list/],
    [
      'wrong state',
      'luna',
      { keys: [{ label: 'a', state: 'activ' }] },
      /kms-plugin\.keys\[0\]\.state is "activ": give active or decrypt/,
    ],
    ['no label', 'luna', { keys: [{ state: 'active' }] }, /kms-plugin\.keys\[0\]\.label is missing/],
    [
      'unknown field of a key',
      'luna',
      { keys: [{ label: 'a', state: 'active', craete: true }] },
      /keys\[0\]\.craete is not known: there are label/,
    ],
    [
      'key id as a number',
      'luna',
      { keys: [{ label: 'a', state: 'active', key_id: 12 }] },
      /keys\[0\]\.key_id must be 32 hexadecimal digits, in quotes/,
    ],
    [
      'create with key id',
      'luna',
      { keys: [{ label: 'a', state: 'active', create: true, key_id: '0f3a5c7e9b1d2f4a6c8e0b2d4f6a8c0e' }] },
      /create cannot be true where key_id/,
    ],
    ['size', 'luna', { keys: [{ label: 'a', state: 'active', size: 512 }] }, /size is 512/],
    ['retired key', 'luna', { retired_keys: ['xyz'] }, /kms-plugin\.retired_keys\[0\] must be 32/],
    ['scheme', 'luna', { scheme: { name: 'rot13' } }, /kms-plugin\.scheme\.name is "rot13"/],
    ['unknown HSM', 'luna', { hsm: 'yubi' }, /kms-plugin\.hsm is "yubi": give one of softhsm2, luna/],
    ['short PIN', 'softhsm2', { softhsm2: { pin: '123' } }, /softhsm2\.pin must be 4 to 255 bytes long/],
    ['no password', 'luna', { luna: { partition_password: null } }, /luna\.partition_password is missing/],
    ['label for Chrystoki.conf', 'luna', { luna: { partition: 'a; b' } }, /luna\.partition holds one of ; \{/],
    ['no servers', 'luna', { luna: { servers: [] } }, /luna\.servers is empty/],
    [
      'server without certificate',
      'luna',
      { luna: { servers: [{ host: 'h', partition_serial_number: 1 }] } },
      /servers\[0\]\.certificate must be/,
    ],
    [
      'server without serial number',
      'luna',
      { luna: { servers: [{ host: 'h', certificate: tls.ca }] } },
      /servers\[0\]\.partition_serial_number is nil/,
    ],
    [
      'same serial number',
      'luna',
      { luna: { servers: [1, 1].map((n) => ({ host: 'h', certificate: tls.ca, partition_serial_number: n })) } },
      /names one partition_serial_number twice/,
    ],
    ['colon in the user', 'cloudhsm', { cloudhsm: { user: 'a:b' } }, /cloudhsm\.user holds a colon/],
    ['variables', 'nshield', { nshield: { variables: { 'A B': 1 } } }, /nshield\.variables\.A B must be NAME: value/],
    ['module missing', 'generic', { module: null }, /kms-plugin\.module is missing/],
    ['module relative', 'generic', { module: 'libacme.so' }, /kms-plugin\.module must be an absolute path/],
    [
      'partition',
      'generic',
      { generic: { partition: { label: 'a', serial: null, slot: 1 } } },
      /generic\.partition must have exactly one/,
    ],
    [
      'environment',
      'generic',
      { environment: { 'A-B': 'x', C: ['y'] } },
      /environment\.A-B must be NAME: text on one line; kms-plugin\.environment\.C/,
    ],
    [
      'file outside',
      'generic',
      { files: [{ path: '/etc/passwd', content: '' }] },
      /files\[0\]\.path is \/etc\/passwd: an absolute path must be under/,
    ],
    [
      'file with ..',
      'generic',
      { files: [{ path: '../a', content: '' }] },
      /files\[0\]\.path must be the path of a file, without \.\./,
    ],
    [
      'file twice',
      'generic',
      {
        files: [
          { path: 'a', content: '' },
          { path: 'a', content: '' },
        ],
      },
      /files\[1\]\.path is a, which another file has/,
    ],
    [
      'file mode as a number',
      'generic',
      { files: [{ path: 'a', content: '', mode: 640 }] },
      /files\[0\]\.mode is 640: give four octal digits in quotes/,
    ],
    ['profile', 'generic', { token: { profile: 'yes' } }, /token\.profile is "yes"/],
    ['login', 'generic', { token: { login: 3 } }, /token\.login is 3/],
    [
      'message too small',
      'generic',
      { limits: { message: '1MiB' } },
      /limits\.message must be larger than kms-plugin\.limits\.value/,
    ],
    [
      'shutdown longer than BPM waits',
      'generic',
      { limits: { shutdown: '30s' } },
      /limits\.shutdown is 30s: give 0 to 18s/,
    ],
    ['memory', 'generic', { memory_limit: 512 }, /kms-plugin\.memory_limit is 512/],
    [
      'hsm_away',
      'generic',
      { post_start: { hsm_away: 'ignore' } },
      /post_start\.hsm_away is "ignore": give one of fail, pass/,
    ],
  ];
  const all = renderAll(
    faults.map(([, hsm, change]) => ({ properties: properties(hsm, change as Record<string, unknown>) })),
  );
  for (const [index, [name, , , message]] of faults.entries()) {
    test(name, () => assert.match(refused(all[index] ?? assert.fail()), message));
  }

  test('hold no secret', () => {
    const message = refusal({
      properties: properties('luna', {
        tls: { private_key: 'S3cret' },
        luna: { partition_password: 'S3cret\n', client_key: 'S3cret' },
        log: { level: 'x' },
      }),
    });
    assert.match(message, /log\.level/);
    assert.doesNotMatch(message, /S3cret/);
  });
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

describe('the context renders as the Director does', () => {
  // A job of the test's own, for what this release's jobs do not use.
  const directory = mkdtempSync(path.join(tmpdir(), 'kms-job-'));
  test.after(() => rmSync(directory, { recursive: true }));
  const job = (template: string): string => {
    mkdirSync(path.join(directory, 'templates'), { recursive: true });
    writeFileSync(
      path.join(directory, 'spec'),
      'name: j\ntemplates: {a.erb: a}\nproperties: {j.a: {default: 1}, j.b: {}, j.c.d: {default: {x: 2}}}\n',
    );
    writeFileSync(path.join(directory, 'monit'), '');
    writeFileSync(path.join(directory, 'templates/a.erb'), template);
    return directory;
  };
  const output = (template: string, rest: object = {}): string => {
    const { files: rendered, errors } = render({ properties: {}, ...rest, directory: job(template) });
    return rendered['a'] ?? `! ${errors.map(({ message }) => message).join()}`;
  };
  const links = {
    db: {
      address: 'db.internal',
      properties: { port: 5 },
      instances: [{ name: 'db', index: 0, address: '10.0.0.9', properties: { port: 6 } }],
    },
  };

  test('defaults, and what is given', () => {
    assert.equal(output("<%= p('j.a') %> <%= p('j.c.d.x') %>"), '1 2');
    assert.equal(output("<%= p('j.a') %>", { properties: { j: { a: false } } }), 'false');
  });
  test('a missing mandatory property', () => assert.equal(output("<%= p('j.b') %>"), "! Can't find property 'j.b'"));
  test('the first of several names, or the default', () =>
    assert.equal(output("<%= p(['j.b', 'j.a']) %><%= p('j.b', 9) %>"), '19'));
  test('a property that the spec does not have', () =>
    assert.match(output("<%= p('j.z', 1) %>"), /j\.z is not a property/));
  test('if_p, else, else_if_p', () =>
    assert.equal(
      output(
        "<% if_p('j.a') { |a| %>A<%= a %><% }.else { %>-<% } %><% if_p('j.b') { %>B<% }.else_if_p('j.a') { %>E<% } %>",
      ),
      'A1E',
    ));
  test('links', () => {
    assert.equal(
      output(
        "<%= link('db').instances.first.address %> <%= link('db').p('port') %> <%= link('db').instances[0].p('port') %>",
        { links },
      ),
      '10.0.0.9 5 6',
    );
    assert.equal(output("<%= link('db').address %>"), "! Can't find link 'db'");
    assert.equal(output("<% if_link('db') { %>yes<% }.else { %>no<% } %>"), 'no');
  });
  test('create-env has no links', () => {
    assert.match(
      output("<%= link('db') %>", { mode: 'create-env', links }),
      /undefined method `link'|undefined method 'link'/,
    );
    assert.match(
      output("<% if_link('db') { %>x<% }.else { %>y<% } %>", { mode: 'create-env' }),
      /undefined method .else/,
    );
  });
  test('the instance', () => {
    assert.equal(
      output('<%= spec.bootstrap %> <%= spec.address.inspect %> <%= spec.az %>', { mode: 'create-env' }),
      'true nil unknown',
    );
    assert.equal(output('<%= spec.index %>', { spec: { index: 3 } }), '3');
  });
});

describe('the job\u2019s spec', () => {
  const spec = parse(readFileSync(path.join(root, 'jobs/kms-plugin/spec'), 'utf8')) as {
    templates: Record<string, string>;
    properties: Record<string, { description?: string; default?: unknown; example?: unknown }>;
  };
  test('every property has a description and an example', () => {
    for (const [name, { description, example }] of Object.entries(spec.properties)) {
      assert.ok((description ?? '').length > 15 && example !== undefined, name);
    }
  });
  test('one without a default says when it is mandatory, or leads to nothing when it is not given', () => {
    for (const [name, { description, ...rest }] of Object.entries(spec.properties)) {
      if (!('default' in rest) && name !== 'kms-plugin.module') assert.match(description ?? '', /Mandatory/, name);
    }
  });
  test('every property is used by a template', () => {
    const templates = Object.keys(spec.templates)
      .map((name) => readFileSync(path.join(root, 'jobs/kms-plugin/templates', name), 'utf8'))
      .join('\n');
    for (const name of Object.keys(spec.properties)) {
      const last = name.split('.').slice(2).join('.') || name;
      assert.ok(
        templates.includes(name) ||
          (name.startsWith('kms-plugin.limits.') && templates.includes(last.split('.').at(-1) ?? '')),
        name,
      );
    }
  });
  test('the examples work', () => {
    const examples: Record<string, unknown> = {};
    for (const [name, { example }] of Object.entries(spec.properties)) {
      const [, first = '', second] = name.split('.');
      if (second === undefined) examples[first] = example;
      else examples[first] = { ...(examples[first] as object | undefined), [second]: example };
    }
    const certificate = { ...tls };
    const luna = { ...(examples['luna'] as object), client_certificate: tls.certificate, client_key: tls.private_key };
    const servers = (examples['luna'] as { servers: object[] }).servers.map((server) => ({
      ...server,
      certificate: tls.ca,
    }));
    for (const hsm of HSM_NAMES) {
      const cloudhsm = { ...(examples['cloudhsm'] as object), hsm_ca_certificate: tls.ca };
      files({
        properties: { 'kms-plugin': { ...examples, hsm, tls: certificate, luna: { ...luna, servers }, cloudhsm } },
      });
    }
    assert.ok(HSMS.luna.hsm === examples['hsm']);
  });
});

test('docs/properties.md is what scripts/generate-properties-doc.mjs writes', () => {
  execFileSync(process.execPath, [path.join(root, 'scripts/generate-properties-doc.mjs'), '--check'], {
    stdio: 'pipe',
  });
});
