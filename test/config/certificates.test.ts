import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { ecKey, Fixture, HOST, tlsOf, type Certificate, type Section } from './fixtures.ts';

const DAY_MS = 86_400_000;
const fixture = new Fixture();
const { ca } = fixture;
const names = `DNS:${HOST}`;
const inDays = (days: number): Date => new Date(Date.now() + days * DAY_MS);

/** Checks a good configuration with other tls settings. */
function checkWith(settings: Section): { problems: [string, string, string][]; warnings: readonly string[] } {
  const raw = fixture.good();
  Object.assign(tlsOf(raw), settings);
  const { problems, warnings } = fixture.check(raw);
  return { problems: problems.map(({ property, trouble, mend }) => [property, trouble, mend]), warnings };
}

function assertProblem(settings: Section, property: string, trouble: RegExp, mend: RegExp): void {
  const { problems } = checkWith(settings);
  assert.deepEqual(
    problems.map(([at]) => at),
    [`listeners[0].tls.${property}`],
  );
  assert.match(problems[0]?.[1] ?? '', trouble);
  assert.match(problems[0]?.[2] ?? '', mend);
}

function assertWarning(settings: Section, property: string, text: RegExp): void {
  const { problems, warnings } = checkWith(settings);
  assert.deepEqual(problems, []);
  assert.equal(warnings.length, 1);
  assert.match(warnings[0] ?? '', new RegExp(`^listeners\\[0\\]\\.tls\\.${property} `));
  assert.match(warnings[0] ?? '', text);
}

const pair = ({ certificate, key }: { certificate: string; key: string }): Section => ({
  certificate,
  private_key: key,
});

describe('a certificate is refused that', () => {
  test('is not there', () => {
    assertProblem({ certificate: 'none.crt' }, 'certificate', /none\.crt, which does not exist/, /PEM file/);
  });

  test('is no PEM certificate', () => {
    assertProblem({ certificate: 'server.key' }, 'certificate', /no PEM certificate/, /inform der/);
  });

  test('is damaged', () => {
    const damaged = readFileSync(fixture.at('server.crt'), 'latin1').replace(/\n.{20}/, '\nAAAAAAAAAAAAAAAAAAAA');
    fixture.write('damaged.crt', damaged);
    assertProblem({ certificate: 'damaged.crt' }, 'certificate', /cannot be parsed/, /openssl x509/);
  });

  test('belongs to another key', () => {
    const other = fixture.certify('other', { names, issuer: ca });
    assertProblem({ private_key: other.key }, 'private_key', /does not belong.*CN=server/, /one pair/);
  });

  test('has run out', () => {
    const old = fixture.certify('old', { names, issuer: ca, from: inDays(-9), to: inDays(-1) });
    assertProblem(pair(old), 'certificate', /has run out.*CN=old.*\d{4}-\d\d-\d\dT/, /renew/);
  });

  test('is not yet valid', () => {
    const early = fixture.certify('early', { names, issuer: ca, from: inDays(1), to: inDays(90) });
    assertProblem(pair(early), 'certificate', /not yet valid/, /clock/);
  });

  test('lacks the host as a DNS name and has another, even where its subject has it', () => {
    assertProblem(
      { host: 'elsewhere.test' },
      'certificate',
      /does not name elsewhere\.test.*DNS:kms-plugin\.test/,
      /DNS subject/,
    );
    const other = fixture.certify('elsewhere', { names: 'DNS:elsewhere.test', subject: `/CN=${HOST}`, issuer: ca });
    assertProblem(pair(other), 'certificate', /carries DNS:elsewhere/, /DNS subject/);
  });

  test('is for clients only', () => {
    const client = fixture.certify('client', { names, issuer: ca, usage: 'clientAuth' });
    assertProblem(pair(client), 'certificate', /not for servers/, /serverAuth/);
  });

  test('has a key that TLS finds too short', () => {
    const short = fixture.certify('short', { names, issuer: ca, rsaBits: 1024 });
    assertProblem(pair(short), 'certificate', /too small/, /2,048 bits/);
  });

  test('stands after its issuer', () => {
    const text = readFileSync(ca.certificate, 'latin1') + readFileSync(fixture.server.certificate, 'latin1');
    fixture.write('reversed.crt', text);
    const { problems } = checkWith({ certificate: 'reversed.crt' });
    assert.match(problems[0]?.[2] ?? '', /server's certificate first/);
  });
});

describe('a private key is refused that', () => {
  test('is no key', () => {
    assertProblem({ private_key: 'server.crt' }, 'private_key', /no PEM private key/, /made for/);
  });

  test('has a passphrase', () => {
    const file = fixture.at('locked.key');
    execFileSync('openssl', ['pkcs8', '-topk8', '-in', fixture.server.key, '-passout', 'pass:hunter2', '-out', file]);
    assertProblem({ private_key: 'locked.key' }, 'private_key', /passphrase/, /without a passphrase/);
  });
});

describe('a CA is refused that', () => {
  test('is not there', () => {
    assertProblem({ ca: 'none.pem' }, 'ca', /does not exist/, /PEM file/);
  });

  test('did not sign, even under the same name', () => {
    fixture.write('ca-before.crt', readFileSync(ca.certificate));
    const directory = new Fixture();
    fixture.write('namesake.crt', readFileSync(directory.ca.certificate));
    assertProblem({ ca: 'namesake.crt' }, 'ca', /did not sign.*CN=ca/, /CA that signed it/);
  });

  test('may not sign', () => {
    const pretender = fixture.certify('pretender', { ca: false });
    const server = fixture.certify('server-of-pretender', { names, issuer: pretender });
    assertProblem({ ...pair(server), ca: pretender.certificate }, 'ca', /is not a CA/, /CA:TRUE/);
  });
});

describe('accepted are', () => {
  test('a chain by way of an intermediate, which must be there', () => {
    const between = fixture.certify('between', { ca: true, issuer: ca });
    const leaf = fixture.certify('leaf', { names, issuer: between });
    const whole = readFileSync(leaf.certificate, 'latin1') + readFileSync(between.certificate, 'latin1');
    fixture.write('chain.crt', whole);
    assert.deepEqual(checkWith({ certificate: 'chain.crt', private_key: leaf.key }), { problems: [], warnings: [] });
    assertProblem(pair(leaf), 'ca', /did not sign/, /between the two/);
  });

  test('a certificate that is its own CA', () => {
    const own = fixture.certify('own', { names });
    assert.deepEqual(checkWith({ ...pair(own), ca: own.certificate }), { problems: [], warnings: [] });
  });

  test('one of several CAs in a file', () => {
    const other = fixture.certify('second-ca', { ca: true });
    const bundle = readFileSync(other.certificate, 'latin1') + readFileSync(ca.certificate, 'latin1');
    assert.deepEqual(checkWith({ ca: fixture.write('bundle.pem', bundle) }), { problems: [], warnings: [] });
  });

  test('a wildcard, RSA, and no CA or host at all', () => {
    const wild = fixture.certify('wild', {
      names: 'DNS:*.plugins.test',
      issuer: ca,
      rsaBits: 2048,
      usage: 'serverAuth',
    });
    assert.deepEqual(checkWith({ ...pair(wild), host: 'kms.plugins.test' }), { problems: [], warnings: [] });
    const raw = fixture.good();
    const tls = tlsOf(raw);
    Reflect.deleteProperty(tls, 'ca');
    Reflect.deleteProperty(tls, 'host');
    assert.deepEqual(fixture.check(raw).problems, []);
  });
});

describe('a warning is given of', () => {
  test('a certificate that runs out within 30 days', () => {
    const brief = fixture.certify('brief', { names, issuer: ca, to: inDays(29.5) });
    const { problems, warnings } = checkWith(pair(brief));
    assert.deepEqual(problems, []);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] ?? '', /^listeners\[0\]\.tls\.certificate \(line \d+\) runs out in 29 days.*renew/);
  });

  test('none that lasts longer', () => {
    const longer = fixture.certify('longer', { names, issuer: ca, to: inDays(30.5) });
    assert.deepEqual(checkWith(pair(longer)).warnings, []);
  });

  test('a private key that every user can read', () => {
    chmodSync(fixture.write('open.key', readFileSync(fixture.server.key)), 0o644);
    const { problems, warnings } = checkWith({ private_key: 'open.key' });
    assert.deepEqual(problems, []);
    assert.match(warnings.join(), /^listeners\[0\]\.tls\.private_key .*every user can read.*chmod o-rwx/);
  });

  test('a certificate without any DNS name, where no host is given', () => {
    const nameless = fixture.certify('nameless', { issuer: ca });
    const raw = fixture.good();
    Object.assign(tlsOf(raw), pair(nameless));
    Reflect.deleteProperty(tlsOf(raw), 'host');
    const { problems, warnings } = fixture.check(raw);
    assert.deepEqual(problems, []);
    assert.match(warnings.join(), /no DNS subject alternative name, which CredHub needs/);
  });
});

/** One file with several certificates, in this order. */
function bundle(name: string, ...certificates: readonly Certificate[]): string {
  return fixture.write(name, certificates.map(({ certificate }) => readFileSync(certificate, 'latin1')).join(''));
}

const ED25519 = ['-algorithm', 'ED25519'];
const TAKEN = /ECDSA P-256 or P-384, or RSA with 2,048 bits or more, up to 8,192/;

// test/java holds the same against the client itself.
describe("CredHub's client", () => {
  for (const [kind, genpkey, shown] of [
    ['Ed25519', ED25519, /Ed25519/],
    ['Ed448', ['-algorithm', 'ED448'], /Ed448/],
    ['P-521', ecKey('P-521'), /P-521/],
    ['P-224', ecKey('P-224'), /P-224/],
    ['secp256k1', ecKey('secp256k1'), /secp256k1/],
    ['brainpool', ecKey('brainpoolP384r1'), /brainpoolP384r1/],
    ['brainpool twisted', ecKey('brainpoolP256t1'), /1\.3\.36\.3\.3\.2\.8\.1\.1\.8/],
    ['explicit parameters', [...ecKey('P-256'), '-pkeyopt', 'ec_param_enc:explicit'], /explicit parameters/],
    ['RSA-PSS', ['-algorithm', 'RSA-PSS', '-pkeyopt', 'rsa_keygen_bits:2048'], /RSA-PSS key of 2,048 bits/],
  ] as const) {
    test(`takes no server key of ${kind}, and is told what it takes`, () => {
      const server = fixture.certify(`server-${kind}`, { names, issuer: ca, genpkey });
      assertProblem(pair(server), 'certificate', shown, TAKEN);
    });
  }

  test('takes P-384, RSA, and CAs of P-521, RSA-PSS and P-384', () => {
    for (const genpkey of [ecKey('P-384'), ['-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:3072']]) {
      const server = fixture.certify('good', { names, issuer: ca, genpkey });
      assert.deepEqual(checkWith(pair(server)), { problems: [], warnings: [] });
    }
    for (const genpkey of [
      ecKey('P-521'),
      ecKey('P-384'),
      ['-algorithm', 'RSA-PSS', '-pkeyopt', 'rsa_keygen_bits:2048'],
    ]) {
      const issuer = fixture.certify('good-ca', { ca: true, genpkey });
      const server = fixture.certify('of-good-ca', { names, issuer });
      assert.deepEqual(checkWith({ ...pair(server), ca: issuer.certificate }), { problems: [], warnings: [] });
    }
  });

  test('takes no CA of Ed25519 or brainpool, at whichever place of the chain', () => {
    for (const [kind, genpkey, digest] of [
      ['Ed25519', ED25519, 'default'],
      ['brainpoolP256r1', ecKey('brainpoolP256r1'), 'sha256'],
    ] as const) {
      const issuer = fixture.certify(`ca-${kind}`, { ca: true, genpkey, digest });
      const server = fixture.certify(`of-ca-${kind}`, { names, issuer, digest });
      assertProblem({ ...pair(server), ca: issuer.certificate }, 'ca', new RegExp(kind), /P-256, P-384 or P-521/);
      const between = fixture.certify(`between-${kind}`, { ca: true, issuer: ca, genpkey });
      const leaf = fixture.certify(`below-${kind}`, { names, issuer: between, digest });
      const chain = bundle(`chain-${kind}`, leaf, between);
      assertProblem({ certificate: chain, private_key: leaf.key }, 'certificate', new RegExp(kind), /new CA/);
    }
  });

  test('takes no signature with SHA-3, no use without signatures, no unknown critical extension', () => {
    const sha3 = fixture.certify('sha3', { names, issuer: ca, digest: 'sha3-256' });
    assertProblem(pair(sha3), 'certificate', /signed in a way/, /SHA-256, SHA-384 or SHA-512/);
    const encipher = fixture.certify('encipher', {
      names,
      issuer: ca,
      rsaBits: 2048,
      extensions: ['keyUsage=critical,keyEncipherment'],
    });
    assertProblem(pair(encipher), 'certificate', /keyUsage without digitalSignature/, /digitalSignature/);
    const strange = fixture.certify('strange', {
      names,
      issuer: ca,
      extensions: ['1.2.3.4=critical,ASN1:UTF8String:x'],
    });
    assertProblem(pair(strange), 'certificate', /critical extension 1\.2\.3\.4/, /not critical/);
    const nobody = fixture.certify('nobody', { names, issuer: ca, subject: '/' });
    assertProblem(pair(nobody), 'certificate', /empty subject/, /make subjectAltName critical/);
  });

  test('looks for host names only', () => {
    for (const host of [
      'kms_plugin.internal',
      'kms-.internal',
      '-kms',
      'a..b',
      `${'a'.repeat(64)}.test`,
      '10.0.0.1',
      '123.456',
      'kms.test.',
    ]) {
      const server = fixture.certify('named', { names: `DNS:${host}`, issuer: ca });
      assertProblem({ ...pair(server), host }, 'host', /./, /kms-plugin\.internal/);
    }
    for (const host of ['kms', 'KMS.test', '1kms.test', 'kms--plugin.test', 'xn--bcher-kva.test']) {
      const server = fixture.certify('named', { names: `DNS:${host}`, issuer: ca });
      assert.deepEqual(checkWith({ ...pair(server), host }).problems, []);
    }
  });

  test('is not asked about a listener that has v2 alone, where Node.js must be able to read the certificate', () => {
    const judge = (files: Certificate): string[] => {
      const raw = fixture.good();
      Object.assign(tlsOf(raw), pair(files));
      Object.assign(raw.listeners[0] ?? {}, { apis: ['v2'] });
      return fixture.check(raw).problems.map(({ trouble }) => trouble);
    };
    assert.deepEqual(judge(fixture.certify('v2', { names, issuer: ca, genpkey: ED25519 })), []);
    const brainpool = fixture.certify('v2-bp', { names, issuer: ca, genpkey: ecKey('brainpoolP256r1') });
    assert.match(judge(brainpool).join(), /brainpoolP256r1.*Node\.js cannot read/);
  });
});

describe("what CredHub's client takes and others do not is a warning:", () => {
  for (const [kind, dates, text] of [
    ['has run out', { from: inDays(-20), to: inDays(-1) }, /has run out.*CN=ca-has run out.*renew/],
    ['is not yet valid', { from: inDays(1), to: inDays(20) }, /is not yet valid.*clock/],
  ] as const) {
    test(`a CA that ${kind}`, () => {
      const old = fixture.certify(`ca-${kind}`, { ca: true, ...dates });
      const server = fixture.certify(`server-of-ca-${kind}`, { names, issuer: old });
      assertWarning({ ...pair(server), ca: old.certificate }, 'ca', text);
    });
  }

  test('but no CA between that has run out', () => {
    const old = fixture.certify('between-old', { ca: true, issuer: ca, from: inDays(-20), to: inDays(-1) });
    const server = fixture.certify('of-between-old', { names, issuer: old });
    const settings = { certificate: bundle('between-old.pem', server, old), private_key: server.key };
    assertProblem(settings, 'certificate', /has run out.*CN=between-old/, /renew/);
    // Where that one is the client's own, its dates do not count.
    assertWarning({ ...pair(server), ca: old.certificate }, 'ca', /has run out.*CN=between-old/);
  });

  test('the host in the common name alone, without or with an address beside it', () => {
    for (const subjectNames of [undefined, 'IP:10.0.0.1']) {
      const subject = `/O=kms/CN=${HOST.toUpperCase()}`;
      const server = fixture.certify('by-subject', {
        issuer: ca,
        subject,
        ...(subjectNames && { names: subjectNames }),
      });
      assertWarning(pair(server), 'certificate', /by a common name alone.*DNS subject alternative name/);
    }
  });

  test('wildcards of two parts, within a part, and of several', () => {
    for (const [pattern, host] of [
      ['*.internal', 'kms.internal'],
      ['kms*.*.internal', 'kms-plugin.credhub.internal'],
      ['*s-*n.*.internal', 'kms-plugin.credhub.internal'],
    ] as const) {
      const server = fixture.certify('wide', { names: `DNS:${pattern}`, issuer: ca });
      assertWarning({ ...pair(server), host }, 'certificate', /by a wide wildcard alone/);
    }
    for (const [pattern, host] of [
      ['*.internal', 'kms.credhub.internal'],
      ['kms.*', 'kms.internal'],
      ['*', 'kms'],
      ['k*p.*.internal', 'kms.credhub.internal'],
    ] as const) {
      const server = fixture.certify('too-wide', { names: `DNS:${pattern}`, issuer: ca });
      assertProblem({ ...pair(server), host }, 'certificate', /does not name/, /DNS subject/);
    }
  });

  test('any purpose in place of serverAuth; the old names of that are as good', () => {
    const any = fixture.certify('any', { names, issuer: ca, usage: 'anyExtendedKeyUsage' });
    assertWarning(pair(any), 'certificate', /anyExtendedKeyUsage.*roundtrip.*serverAuth/);
    const old = fixture.certify('sgc', { names, issuer: ca, usage: 'nsSGC' });
    assert.deepEqual(checkWith(pair(old)), { problems: [], warnings: [] });
  });
});

describe('one good way to a CA is enough', () => {
  const expired = { from: inDays(-20), to: inDays(-1) };

  test('whatever of the same name and key lies before it in the CA file', () => {
    const old = fixture.certify('renewed-old', { ca: true, subject: '/CN=renewed', ...expired });
    const renewed = fixture.certify('renewed', { ca: true, keyOf: old });
    const server = fixture.certify('of-renewed', { names, issuer: renewed });
    for (const order of [
      [old, renewed],
      [renewed, old],
    ]) {
      assert.deepEqual(checkWith({ ...pair(server), ca: bundle('renewal.pem', ...order) }), {
        problems: [],
        warnings: [],
      });
    }
    assertWarning({ ...pair(server), ca: old.certificate }, 'ca', /has run out.*CN=renewed.*roundtrip.*renew/);
  });

  test('whatever lies beside it in the certificate file', () => {
    const between = fixture.certify('middle', { ca: true, issuer: ca });
    const old = fixture.certify('middle-old', {
      ca: true,
      issuer: ca,
      subject: '/CN=middle',
      keyOf: between,
      ...expired,
    });
    const leaf = fixture.certify('under-middle', { names, issuer: between });
    const stranger = fixture.certify('stranger', { ca: true, genpkey: ED25519, digest: 'default', ...expired });
    for (const chain of [
      [leaf, old, between],
      [leaf, between, old],
      [leaf, stranger, between],
      [leaf, leaf, between, between],
    ]) {
      const settings = { certificate: bundle('many.crt', ...chain), private_key: leaf.key };
      assert.deepEqual(checkWith(settings), { problems: [], warnings: [] });
      // Without a CA here the way ends at the last certificate that there is.
      assert.deepEqual(checkWith({ ...settings, ca: undefined }).problems, []);
    }
    const settings = { certificate: bundle('old.crt', leaf, old), private_key: leaf.key };
    assertProblem(settings, 'certificate', /has run out.*CN=middle/, /renew/);
  });

  test('a warning is of the way that lasts longest', () => {
    const soon = fixture.certify('soon', { ca: true, to: inDays(9) });
    const later = fixture.certify('later', { ca: true, subject: '/CN=soon', keyOf: soon });
    const server = fixture.certify('of-soon', { names, issuer: later });
    assert.deepEqual(checkWith({ ...pair(server), ca: bundle('two.pem', soon, later) }).warnings, []);
    assert.match(checkWith({ ...pair(server), ca: soon.certificate }).warnings.join(), /tls\.ca .*runs out in 8 days/);
  });

  test('a crowd of one name and key is looked at in bounded time', () => {
    const one = fixture.certify('many', { ca: true });
    const copies = Array.from({ length: 12 }, (_, index) =>
      fixture.certify(`many-${index}`, { ca: true, subject: '/CN=many', keyOf: one, ...expired }),
    );
    const leaf = fixture.certify('of-many', { names, issuer: one });
    const chain = bundle('crowd.crt', leaf, ...copies, ...copies);
    assert.deepEqual(
      checkWith({ certificate: chain, private_key: leaf.key, ca: bundle('crowd.pem', ...copies, one) }).problems,
      [],
    );
  });
});
