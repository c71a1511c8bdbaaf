/** The support archive: whole, private, and without any secret, wherever an operator may have put one. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFileSync, readFileSync, statSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { stringify } from 'yaml';
import type { Diagnosis } from '../../src/doctor/index.ts';
import { makeInstallation, type Installation } from '../service/installation.ts';
import { program, verb, type Watched } from '../service/processes.ts';

const SECRETS = {
  PIN: 'pin-7Qz3vK9xWm2T',
  variable: 'variable-Gh5tRq8nLw3X',
  comment: 'comment-Zx2cVb7nMk4P',
  misplaced: 'misplaced-Ty6uIo1pAs9D',
  logged: 'logged-Fg3hJk8lQw5E',
};

let installation: Installation;
let service: Watched;

before(async () => {
  installation = await makeInstallation({ pin: SECRETS.PIN });
  installation.configure((raw) =>
    Object.assign(raw.token['environment'] as object, { VENDOR_SESSION: SECRETS.variable }),
  );
  appendFileSync(installation.config, `# do not forget: ${SECRETS.comment}\n`);
  service = program('serve', '--config', installation.config);
  await service.said(/^ready/);
});
after(async () => {
  service.kill();
  await service.ended();
  await installation.cleanup();
});

function bundle(name: string, ...more: string[]): string {
  const file = installation.fixture.at(name);
  const { status, stderr } = verb('doctor', '--bundle', file, ...more, '--config', installation.config);
  assert.ok(status === 0 || status === 1, stderr);
  assert.equal(stderr, '');
  return file;
}

const entry = (file: string, name: string): string =>
  execFileSync('tar', ['-xOf', file, `kms-plugin-doctor/${name}`], { encoding: 'utf8' });

/** Each secret as it is, in hex and in base64 at its three offsets; of private keys, a line of the PEM. */
function assertNoSecret(file: string): void {
  const bytes = readFileSync(file);
  const { fixture } = installation;
  const keys = ['server.key', 'ca.key'].map((name) => readFileSync(fixture.at(name), 'utf8').split('\n')[1] ?? '');
  for (const key of keys) assert.ok(key.length > 40 && !bytes.includes(key), 'a private key');
  for (const [name, secret] of Object.entries(SECRETS)) {
    const core = Buffer.from(secret).subarray(3, 15);
    const base64 = [0, 1, 2].map((from) => core.subarray(from, from + 9).toString('base64'));
    for (const form of [core.toString(), core.toString('hex'), ...base64]) assert.ok(!bytes.includes(form), name);
  }
}

describe('the support archive', () => {
  it('holds what helps, with mode 0600, and tar unpacks it', () => {
    const log = installation.fixture.write('kms-plugin.log', `${service.stdout}core dump: ${SECRETS.logged}\n`);
    const file = bundle('support.tar', '--log', log);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const names = execFileSync('tar', ['-tf', file], { encoding: 'utf8' }).trim().split('\n');
    for (const name of [
      'README.txt',
      'doctor.txt',
      'doctor.json',
      'status.json',
      'configuration.json',
      'pins.json',
      'log.txt',
    ]) {
      assert.ok(names.includes(`kms-plugin-doctor/${name}`), name);
    }
    assert.equal((JSON.parse(entry(file, 'doctor.json')) as Diagnosis).lines[0]?.check, 'configuration');
    assert.match(entry(file, 'status.json'), new RegExp(installation.hsm.serial));
    assert.match(entry(file, 'log.txt'), /^# \d+ lines of the plugin's; 1 others left out\n.*"starting"/);
    assert.match(entry(file, 'proc-token-limits.txt'), /^Max core file size +0 /m);
    const settings = JSON.parse(entry(file, 'configuration.json')) as Record<string, unknown>;
    assert.deepEqual(settings['keys'], [
      { label: 'key-2026', state: 'active' },
      { label: 'key-2024', state: 'decrypt' },
    ]);
    const { environment, pin_file: pinFile } = settings['token'] as Record<string, unknown>;
    assert.deepEqual(environment, { SOFTHSM2_CONF: '(masked)', VENDOR_SESSION: '(masked)' });
    assert.equal(pinFile, 'pin');
    assertNoSecret(file);
  });

  it('replaces no file', () => {
    const file = installation.fixture.write('there.tar', 'something');
    const { status, stderr } = verb('doctor', '--bundle', file, '--config', installation.config);
    assert.equal(status, 1);
    assert.match(stderr, /there\.tar/);
    assert.equal(readFileSync(file, 'utf8'), 'something');
  });

  it('masks what stands where it does not belong', () => {
    installation.configure((raw) => {
      raw.token['pin_file'] = SECRETS.misplaced;
      raw.token['pin'] = SECRETS.PIN;
      raw['notes'] = { deep: [SECRETS.comment] };
    });
    assertNoSecretIn(['token', 'listeners'], bundle('misplaced.tar'));
    installation.fixture.write('kms-plugin.yml', `token: {pin: ${SECRETS.PIN}\n${stringify({ a: SECRETS.comment })}`);
    assertNoSecretIn(['unreadable'], bundle('no-yaml.tar'));
  });
});

function assertNoSecretIn(names: readonly string[], file: string): void {
  for (const name of names) assert.ok(entry(file, 'configuration.json').includes(`"${name}"`), name);
  assertNoSecret(file);
}
