import assert from 'node:assert/strict';
import { chownSync, mkdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { after, afterEach, before, describe, it } from 'node:test';
import type { StatusReport } from '../../src/control/index.ts';
import type { KeyReport } from '../../src/keyring/index.ts';
import { HOST, tlsOf } from '../config/fixtures.ts';
import { makeInstallation, type Installation } from '../service/installation.ts';
import { program, verb, type Watched } from '../service/processes.ts';

let installation: Installation;
let service: Watched;

/** Runs a verb with the installation's configuration. */
const run = (...args: string[]) => verb(...args, '--config', installation.config);
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters -- the caller knows what the verb answers
function json<T>(...args: string[]): T {
  const { stdout, stderr } = run(...args, '--json');
  assert.equal(stderr, '');
  return JSON.parse(stdout) as T;
}

before(async () => {
  installation = await makeInstallation();
});
after(async () => {
  service.kill();
  await service.ended();
  await installation.cleanup();
});

afterEach(() => installation.configure());

describe('verbs while the service runs', () => {
  before(async () => {
    service = program('serve', '--config', installation.config);
    await service.said(/^ready/);
  });
  after(async () => {
    assert.equal(await service.stop(), 0, service.stderr);
  });

  it('version', () => {
    const { status, stdout } = verb('version');
    assert.equal(status, 0);
    const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    assert.match(
      stdout,
      new RegExp(`^kms-plugin ${manifest.version}\nNode.js ${process.versions.node}\n@grpc/grpc-js `),
    );
  });

  it('check-config', () => {
    assert.deepEqual(run('check-config').status, 0);
    assert.equal(json<{ ok: boolean }>('check-config').ok, true);
  });

  it('status', () => {
    const { status, stdout } = run('status');
    assert.equal(status, 0);
    assert.match(stdout, /^state +ready, encrypting with key [0-9a-f]{32}$/m);
    assert.ok(stdout.split('\n').length <= 24);
    assert.doesNotMatch(stdout, /\u001b/);
    const report = json<StatusReport>('status');
    assert.equal(report.pid, service.pid);
    assert.equal(report.health.ok, true);
    assert.equal(report.token.token?.serial, installation.hsm.serial);
  });

  it('roundtrip, as CredHub and as kube-apiserver', () => {
    const { status, stdout } = run('roundtrip', '--show');
    assert.equal(status, 0, stdout);
    for (const head of [
      'credhub (TLS, v1beta1): ok',
      'kubernetes (no TLS, v1beta1): ok',
      'kubernetes (no TLS, v2): ok',
    ]) {
      assert.ok(stdout.includes(head), stdout);
    }
    assert.match(stdout, /^ {2}ciphertext 8b48534d4b4d530a0101[0-9a-f]+$/m);
    const [only = {}] = json<Record<string, unknown>[]>('roundtrip', '--listener', 'credhub', '--size', '0');
    assert.deepEqual(
      [only['listener'], only['api'], only['ok'], only['plaintextBytes'], only['ciphertextBytes'], only['ciphertext']],
      ['credhub', 'v1beta1', true, 0, 54, undefined],
    );
    assert.equal(only['keyId'], json<StatusReport>('status').health.activeKeyId);
  });

  it('roundtrip says which call failed, with which status', () => {
    const { status, stdout } = run('roundtrip', '--listener', 'credhub', '--size', '2000000');
    assert.equal(status, 1);
    assert.match(stdout, /credhub \(TLS, v1beta1\): failed\n {2}Encrypt: RESOURCE_EXHAUSTED: /);
    assert.equal(run('roundtrip', '--listener', 'nobody').status, 1);
    assert.equal(run('roundtrip', '--listener', 'credhub', '--api', 'v2').status, 1);
    assert.equal(run('roundtrip', '--api', 'v3').status, 2);
    assert.equal(run('roundtrip', '--size', 'much').status, 2);
  });

  it('roundtrip trusts the ca of the listener alone', () => {
    const { fixture } = installation;
    // Certificate and ca fit each other on disk, but the service has not been told yet.
    const ca = fixture.certify('ca2', { ca: true });
    fixture.certify('server2', { names: `DNS:${HOST}`, issuer: ca });
    installation.configure((raw) => {
      Object.assign(tlsOf(raw), { ca: 'ca2.crt', certificate: 'server2.crt', private_key: 'server2.key' });
    });
    const strange = run('roundtrip', '--listener', 'credhub');
    assert.equal(strange.status, 1);
    assert.match(strange.stdout, /Encrypt: UNAVAILABLE: .*certificate/);
  });

  it('keys list', () => {
    const { status, stdout } = run('keys', 'list');
    assert.equal(status, 0);
    assert.match(stdout, /^active +key-2026 +[0-9a-f]{32} +AES-256/m);
    assert.match(
      stdout,
      /^decrypt +key-2024 .*\n +this host has not encrypted with it\. If it is new: .*\n +CredHub: keep it: .*plugin -> internal provider -> plugin\n +kube-apiserver: keep it: .*etcd$/m,
    );
    const keys = json<(KeyReport & { dropping?: string })[]>('keys', 'list');
    assert.deepEqual(
      keys.map(({ label, dropping }) => [label, dropping !== undefined]),
      [
        ['key-2026', false],
        ['key-2024', true],
      ],
    );
  });

  it('keys create and inspect', () => {
    const made = run('keys', 'create', 'key-2027');
    assert.equal(made.status, 0, made.stderr);
    assert.match(made.stdout, /^created "key-2027", key id [0-9a-f]{32}\nNext: list it under keys with state: decrypt/);
    const { status, stdout } = run('keys', 'inspect', 'key-2027');
    assert.equal(status, 0);
    assert.match(stdout, /^state +not listed/m);
    assert.match(stdout, /sensitive true\n +extractable false/);
    assert.match(
      run('keys', 'inspect', 'key-2024').stdout,
      /^dropping +CredHub: keep it: .*\n {12}kube-apiserver: keep it: .*etcd$/m,
    );
    const again = run('keys', 'create', 'key-2027');
    assert.equal(again.status, 1);
    assert.match(again.stderr, /\(KMS-3006\)$/m);
    assert.equal(run('keys', 'inspect', 'never-made').status, 1);
  });

  it('log-level', async () => {
    assert.equal(run('log-level', 'debug', '--for', '1h').status, 0);
    assert.equal(json<StatusReport>('status').logLevel, 'debug');
    assert.equal(run('roundtrip').status, 0);
    await service.said(/^call ended$/);
    assert.match(run('log-level', 'info').stdout, /^log level info until the next restart/);
    assert.equal(json<StatusReport>('status').logLevel, 'info');
    assert.equal(run('log-level', 'loud').status, 2);
    assert.equal(run('log-level', 'debug', '--for', 'ever').status, 2);
  });

  it('pin and pin clear', () => {
    const [pin] = json<{ serial: string; state: string }[]>('pin');
    assert.deepEqual([pin?.serial, pin?.state], [installation.hsm.serial, 'good']);
    assert.match(run('pin').stdout, /good: the last login worked/);
    assert.deepEqual(json('pin', 'clear', '--serial', 'another'), { forgotten: 0, serviceTold: true });
    assert.deepEqual(json('pin', 'clear'), { forgotten: 1, serviceTold: true });
    assert.match(run('pin').stdout, /Nothing is remembered/);
    assert.equal(run('roundtrip', '--listener', 'credhub').status, 0);
  });

  it('ask the service although its file is faulty by now', () => {
    installation.configure((raw) => {
      raw['nonsense'] = 1;
      Object.assign(tlsOf(raw), { certificate: 'gone.crt' });
    });
    for (const args of [
      ['status'],
      ['keys', 'list'],
      ['pin'],
      ['pin', 'clear', '--serial', 'another'],
      ['log-level', 'info'],
    ]) {
      const { status, stderr } = run(...args);
      assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
    }
    assert.equal(run('check-config').status, 78);
  });
});

describe('verbs while the service is down', () => {
  it('status, log-level: exit status 69', () => {
    for (const args of [['status'], ['log-level', 'info']]) {
      const { status, stderr } = run(...args);
      assert.equal(status, 69);
      assert.match(stderr, /the service is not running \(nobody listens on .*control\.sock\)/);
    }
    const { status, stdout } = run('status', '--json');
    assert.equal(status, 69);
    assert.equal((JSON.parse(stdout) as { error: { exit: number } }).error.exit, 69);
  });

  it('keys reach the token themselves', () => {
    const { status, stdout } = run('keys', 'list');
    assert.equal(status, 0);
    assert.match(stdout, /^active +key-2026 +[0-9a-f]{32} +AES-256/m);
    assert.equal(run('keys', 'create', 'key-2028').status, 0);
    assert.equal(run('keys', 'inspect', 'key-2028').status, 0);
  });

  it('keys make nothing on their own account', () => {
    installation.configure((raw) => (raw.keys = [{ label: 'key-2040', state: 'active', create: true }]));
    const { status, stdout } = run('keys', 'list');
    assert.equal(status, 1);
    assert.match(stdout, /active +key-2040 /);
    assert.equal(run('keys', 'inspect', 'key-2040').status, 1);
  });

  it('pin and pin clear', () => {
    assert.match(run('pin').stdout, /good/);
    assert.deepEqual(json('pin', 'clear'), { forgotten: 1, serviceTold: false });
  });

  it('keys say so when the PIN is refused, and spend no second login', () => {
    const { fixture, hsm } = installation;
    fixture.write('pin', 'wrong-pin');
    const first = run('keys', 'list');
    assert.equal(first.status, 1);
    assert.match(first.stderr, /PIN/);
    assert.match(run('pin').stdout, /refused: not tried again/);
    fixture.write('pin', hsm.pin);
    assert.equal(run('keys', 'list').status, 0);
  });

  it('roundtrip names the status', () => {
    const { status, stdout } = run('roundtrip', '--listener', 'kubernetes', '--api', 'v2');
    assert.equal(status, 1);
    assert.match(stdout, /Status: UNAVAILABLE: .*ENOENT.*\n {2}-> nobody listens there: start the service/);
  });

  it('doctor says why it wrote no archive', () => {
    const { fixture } = installation;
    const to = fixture.write('archive.tar', 'there already');
    for (const [args, trouble] of [
      [['--bundle', to], /no archive was written: .*archive\.tar is there already/],
      [['--bundle', fixture.at('nowhere/a.tar')], /no archive was written: .*nowhere\/a\.tar is not there, or its dir/],
      [
        ['--bundle', fixture.at('new.tar'), '--log', fixture.at('no.log')],
        /no archive was written: .*no\.log is not there/,
      ],
    ] as const) {
      const { status, stderr } = run('doctor', ...args);
      assert.equal(status, 1);
      assert.match(stderr, trouble);
    }
  });

  it('a faulty configuration: exit status 78, and nothing is touched', () => {
    const { fixture } = installation;
    installation.configure((raw) => {
      raw['nonsense'] = 1;
      raw.state_dir = 'other-state';
      raw.keys.push({ label: 'second', state: 'active' });
    });
    for (const args of [['serve'], ['check-config'], ['status'], ['keys', 'list']]) {
      const { status, stdout, stderr } = run(...args);
      assert.equal(status, 78, args.join(' '));
      assert.match(stdout + stderr, /2 problems[^]*2 active keys[^]*nonsense.*is not a known setting/);
    }
    assert.throws(() => readFileSync(fixture.at('other-state')), { code: 'ENOENT' });
  });

  it('a service that is stuck: exit status 69 after 5 s, and no token process of our own', async () => {
    const socket = installation.fixture.at('state/control.sock');
    const stuck = createServer((connection) => void connection.on('error', () => undefined).resume()).listen(socket);
    await new Promise((resolve) => stuck.once('listening', resolve));
    const watched = program('keys', 'list', '--config', installation.config);
    const status = await watched.ended();
    await new Promise((resolve) => stuck.close(resolve));
    assert.equal(status, 69);
    assert.match(watched.stderr, /did not answer on .* within 5 s/);
  });

  it('root stays out of the state_dir of another user', () => {
    const { fixture } = installation;
    mkdirSync(fixture.at('theirs'), { mode: 0o777 });
    installation.configure((raw) => (raw.state_dir = 'theirs/state'));
    if (process.getuid?.() === 0) {
      chownSync(fixture.at('theirs'), 65_534, 65_534);
      for (const args of [['pin', 'clear'], ['keys', 'list'], ['serve']]) {
        const { status, stderr } = run(...args);
        assert.equal(status, 1, args.join(' '));
        assert.match(stderr, /belongs to user 65534 and this is root/);
      }
    }
  });

  it('wrong command lines: exit status 2', () => {
    for (const args of [[], ['frob'], ['status', '--frob'], ['keys']]) {
      const { status, stderr } = verb(...args);
      assert.equal(status, 2);
      assert.match(stderr, /see kms-plugin --help/);
    }
    assert.equal(verb('--help').status, 0);
  });
});
