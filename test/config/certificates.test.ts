import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { Fixture, HOST, tlsOf, type Section } from './fixtures.ts';

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

  test('lacks the host as a DNS name, even where its subject has it', () => {
    assertProblem(
      { host: 'elsewhere.test' },
      'certificate',
      /does not name elsewhere\.test.*DNS:kms-plugin\.test/,
      /DNS subject/,
    );
    const subjectOnly = fixture.certify(HOST, { issuer: ca });
    assertProblem(pair(subjectOnly), 'certificate', /it carries none/, /DNS subject/);
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

  test('has run out', () => {
    const old = fixture.certify('old-ca', { ca: true, from: inDays(-20), to: inDays(-1) });
    const server = fixture.certify('server-of-old', { names, issuer: old });
    assertProblem({ ...pair(server), ca: old.certificate }, 'ca', /has run out.*CN=old-ca/, /renew/);
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
