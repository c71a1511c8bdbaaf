/** What the templates render for the vendors' libraries and for BPM. */
import assert from 'node:assert/strict';
import path from 'node:path';
import test, { describe } from 'node:test';
import { parse } from 'yaml';
import { load } from './loaded.ts';
import { file, files, refusal } from './render.ts';
import { HSM_NAMES, otherTls, properties, tls, type HsmName } from './properties.ts';

const SOCKET = '/var/vcap/sys/run/kms-plugin/kms-plugin.sock';

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
