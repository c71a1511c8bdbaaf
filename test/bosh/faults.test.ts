/** Properties that cannot work stop a deployment while templates render: all named, in one message. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test, { describe } from 'node:test';
import { ecKey, Fixture, type Certificate, type CertificateOptions } from '../config/fixtures.ts';
import { makeCertificate } from './certificates.ts';
import { HOST, otherTls, properties, tls, type HsmName } from './properties.ts';
import { refusal, refused, renderAll } from './render.ts';

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

// test/config and test/java hold the same of the plugin and of the client.
describe("certificates are judged as CredHub's client judges them", () => {
  const fixture = new Fixture();
  const names = `DNS:${HOST}`;
  const expired = { from: new Date(Date.now() - 9 * 86_400_000), to: new Date(Date.now() - 86_400_000) };
  const text = (...files: readonly Certificate[]): string =>
    files.map(({ certificate }) => readFileSync(certificate, 'utf8')).join('');
  let count = 0;
  const server = (
    options: CertificateOptions,
    issuer = fixture.ca,
    between: readonly Certificate[] = [],
    ca = issuer,
  ) => {
    const made = fixture.certify(`bosh-${count++}`, { names, issuer, ...options });
    return { certificate: text(made, ...between), private_key: readFileSync(made.key, 'utf8'), ca: text(ca) };
  };
  const own = (options: CertificateOptions) => fixture.certify(`bosh-ca-${count++}`, { ca: true, ...options });
  const between = own({ issuer: fixture.ca, subject: '/CN=between' });
  const oldBetween = own({ issuer: fixture.ca, subject: '/CN=between', keyOf: between, ...expired });
  const host = (pattern: string) => ({ names: `DNS:${pattern}` });
  const wide = HOST.replace(/^[^.]+/, '*');
  const cases: [string, object, RegExp | undefined][] = [
    ['P-384', server({ genpkey: ecKey('P-384') }), undefined],
    ['RSA', server({ rsaBits: 2048 }), undefined],
    ['RSA of 1024 bits', server({ rsaBits: 1024 }), /a key that CredHub's client does not take/],
    ['Ed25519', server({ genpkey: ['-algorithm', 'ED25519'] }), /a key that CredHub's client does not take/],
    ['P-521', server({ genpkey: ecKey('P-521') }), /a key that CredHub's client does not take/],
    ['brainpool', server({ genpkey: ecKey('brainpoolP256r1') }), /a key that CredHub's client does not take/],
    [
      'explicit parameters',
      server({ genpkey: [...ecKey('P-256'), '-pkeyopt', 'ec_param_enc:explicit'] }),
      /a key that (CredHub's client does not take|cannot be read)/,
    ],
    ['a CA of P-521', server({}, own({ genpkey: ecKey('P-521') })), undefined],
    [
      'a CA of Ed25519',
      server({}, own({ genpkey: ['-algorithm', 'ED25519'], digest: 'default' })),
      /tls\.ca has a key that CredHub's client does not take/,
    ],
    ['a CA that has run out', server({}, own(expired)), undefined],
    ['a CA between that has run out', server({}, between, [oldBetween], fixture.ca), /CA that ran out/],
    ['that one beside its renewal', server({}, between, [oldBetween, between], fixture.ca), undefined],
    ['the common name', server({ subject: `/CN=${HOST}`, names: 'IP:10.0.0.1' }), undefined],
    ['a wildcard', server(host(wide)), undefined],
    ['a wildcard at the end', server(host(HOST.replace(/[^.]+$/, '*'))), /not among the certificate's DNS names/],
    ['any purpose', server({ usage: 'anyExtendedKeyUsage' }), undefined],
    ['for clients', server({ usage: 'clientAuth' }), /is not for servers/],
    [
      'keyEncipherment',
      server({ rsaBits: 2048, extensions: ['keyUsage=keyEncipherment'] }),
      /without digitalSignature/,
    ],
    ['not yet valid', server({ from: new Date(Date.now() + 3 * 86_400_000) }), /is not valid before/],
  ];
  const all = renderAll(cases.map(([, settings]) => ({ properties: properties('luna', { tls: settings }) })));
  for (const [index, [name, , message]] of cases.entries()) {
    test(name, () => {
      const answer = all[index] ?? assert.fail();
      if (message === undefined) assert.deepEqual(answer.errors, []);
      else assert.match(refused(answer), message);
    });
  }
});
