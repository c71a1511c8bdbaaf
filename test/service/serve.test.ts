import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, renameSync, statSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { afterEach, before, describe, it } from 'node:test';
import { stringify } from 'yaml';
import { loadConfig } from '../../src/config/index.ts';
import { ControlClient } from '../../src/control/index.ts';
import { roundTrip } from '../../src/api/index.ts';
import { Fixture, tlsOf, type Raw } from '../config/fixtures.ts';
import { freePort } from './installation.ts';
import { fakeService, verb, type Watched } from './processes.ts';

let fixture: Fixture;
let port: number;
const running: Watched[] = [];

before(async () => {
  port = await freePort();
});
afterEach(async () => {
  for (const service of running.splice(0)) {
    service.kill();
    await service.ended();
  }
});

function configuration(change: (raw: Raw) => void = () => undefined): string {
  const raw: Raw = { ...fixture.good(), health: { address: '127.0.0.1', port }, limits: { shutdown: '3s' } };
  change(raw);
  return fixture.write('kms-plugin.yml', stringify(raw));
}

function start(availability: 'ready' | 'away' | 'slow' = 'ready', change?: (raw: Raw) => void): Watched {
  fixture = new Fixture();
  const service = fakeService(configuration(change), availability);
  running.push(service);
  return service;
}

const control = () => new ControlClient(fixture.at('state/control.sock'));
const health = async (path: string) => (await fetch(`http://127.0.0.1:${port}/healthz/${path}`)).status;
const body = async (path: string) => (await fetch(`http://127.0.0.1:${port}/healthz/${path}`)).text();
const mode = (file: string) => (statSync(file).mode & 0o777).toString(8);

describe('serve', () => {
  it('listens, with everything private, while the HSM is away', async () => {
    // A name that the log would not print the value of, were it a key.
    const service = start('away', (raw) => Object.assign(raw.listeners[1] ?? {}, { name: 'plain' }));
    const line = await service.said(/^listening$/);
    assert.deepEqual(line['listeners'], [
      { name: 'credhub', endpoint: fixture.at('run/credhub.sock') },
      { name: 'plain', endpoint: fixture.at('run/kubernetes.sock') },
    ]);
    assert.equal(mode(fixture.at('state')), '700');
    assert.equal(mode(fixture.at('state/control.sock')), '600');
    assert.equal(mode(fixture.at('state/serve.lock')), '600');
    assert.equal(await health('liveness'), 200);
    assert.equal(await health('readiness'), 503);
    const status = await control().status();
    assert.equal(status.pid, service.pid);
    assert.equal(status.health.ok, false);
    assert.equal(status.version, '1.0.0');
    assert.match(status.health.reason, /the token is away/);
  });

  it('says that it is ready, also where the keys were found before it listened', async () => {
    const service = start();
    await service.said(/^ready: calls succeed$/);
    await service.said(/^listening$/);
    assert.equal(service.lines().filter(({ message }) => message === 'ready: calls succeed').length, 1);
  });

  it('leaves no core file and opens no debugger', async () => {
    const service = start();
    await service.said(/^listening$/);
    assert.match(readFileSync(`/proc/${service.pid}/limits`, 'utf8'), /^Max core file size +0 +0 /m);
    assert.equal(readFileSync(`/proc/${service.pid}/coredump_filter`, 'utf8').trim(), '00000000');
    service.child.kill('SIGUSR1');
    await control().status();
    await new Promise((resolve) => setTimeout(resolve, 200));
    assert.equal((await control().status()).pid, service.pid);
    assert.doesNotMatch(service.stderr, /Debugger/);
  });

  it('refuses a second one on the same state_dir and goes on itself', async () => {
    const first = start();
    await first.said(/^listening$/);
    const second = fakeService(fixture.at('kms-plugin.yml'));
    running.push(second);
    assert.equal(await second.ended(), 1);
    assert.match(second.stderr, /another kms-plugin serves with this state_dir: it holds \/.*serve\.lock/);
    assert.equal((await control().status()).pid, first.pid);
    const [credhub] = loadConfig(fixture.at('kms-plugin.yml')).listeners;
    assert.ok(credhub !== undefined);
    const value = Buffer.from('still here');
    const trip = await roundTrip(credhub, { api: 'v1beta1', plaintext: value, deadlineMs: 5000 });
    assert.deepEqual(trip.plaintext, value);
  });

  it("leaves another program's live socket alone and ends", async () => {
    fixture = new Fixture();
    const other = createServer().listen(fixture.at('run/kubernetes.sock'));
    await new Promise((resolve) => other.once('listening', resolve));
    const service = fakeService(configuration());
    running.push(service);
    assert.equal(await service.ended(), 1);
    assert.match(service.stderr, /kubernetes\.sock is in use/);
    assert.ok(!existsSync(fixture.at('run/credhub.sock')), 'the other listener is given up again');
    assert.ok(!existsSync(fixture.at('state/control.sock')));
    await new Promise((resolve) => other.close(resolve));
  });

  it('ends at SIGTERM with status 0, after the calls in flight', async () => {
    const service = start('slow');
    await service.said(/^listening$/);
    const kubernetes = loadConfig(fixture.at('kms-plugin.yml')).listeners[1];
    assert.ok(kubernetes !== undefined);
    const value = Buffer.from('in flight');
    const trip = roundTrip(kubernetes, { api: 'v2', plaintext: value, deadlineMs: 5000 });
    for (;;) {
      if ((await control().status()).calls.inFlight > 0) break;
    }
    service.child.kill('SIGTERM');
    service.child.kill('SIGINT');
    // The Encrypt in flight is answered; the Decrypt after it finds the door closed.
    await assert.rejects(trip, { name: 'RoundTripError', step: 'Decrypt', status: 'UNAVAILABLE' });
    assert.equal(await service.ended(), 0);
    for (const name of ['run/credhub.sock', 'run/kubernetes.sock', 'state/control.sock']) {
      assert.ok(!existsSync(fixture.at(name)), name);
    }
    assert.equal(service.lines().at(-1)?.message, 'stopped');
  });

  it('goes on after a promise that nobody waited for, and ends after an exception that nobody caught', async () => {
    const service = start();
    await service.said(/^listening$/);
    await control()
      .createKey('reject')
      .catch(() => undefined);
    assert.equal((await service.said(/was not waited for/))['code'], 'KMS-9001');
    assert.equal((await control().status()).pid, service.pid);
    await control()
      .createKey('throw')
      .catch(() => undefined);
    assert.equal(await service.ended(), 1);
    const last = service.lines().filter(({ level }) => level === 'error');
    assert.equal(last.at(-1)?.['code'], 'KMS-9001');
  });

  it('fails liveness when a listener has lost its socket, also to a dead one of another program', async () => {
    const service = start();
    await service.said(/^listening$/);
    assert.equal(await health('liveness'), 200);
    const socket = fixture.at('run/credhub.sock');
    unlinkSync(socket);
    assert.deepEqual([await health('liveness'), await health('readiness')], [503, 503]);
    // Bound and never listened on, as a program that was killed leaves it.
    const bind = 'import socket,sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])';
    execFileSync('python3', ['-c', bind, socket]);
    assert.equal(statSync(socket).isSocket(), true);
    assert.deepEqual([await health('liveness'), await health('readiness')], [503, 503]);
    assert.match(await body('liveness'), /is not the socket of listener credhub any more/);
  });

  it('goes on, live and not ready, when the file system refuses a look at a socket', async () => {
    const service = start();
    await service.said(/^listening$/);
    const at = fixture.at('run');
    renameSync(at, `${at}.away`);
    // ELOOP, which no user is spared: root, as tests may be, enters a directory of mode 0000.
    symlinkSync('run', at);
    assert.deepEqual([await health('liveness'), await health('readiness')], [200, 503]);
    assert.match(await body('readiness'), /ELOOP.*open connections go on/);
    const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
    assert.match(metrics, /^kms_plugin_ready 0$/m);
    assert.equal((await control().status()).pid, service.pid);
    unlinkSync(at);
    writeFileSync(at, 'a file in the place of the directory');
    assert.equal(await health('liveness'), 503);
    unlinkSync(at);
    renameSync(`${at}.away`, at);
    assert.deepEqual([await health('liveness'), await health('readiness')], [200, 200]);
    assert.doesNotMatch(service.stdout, /KMS-9001/);
  });

  it('logs the port that it has when it asked for any', async () => {
    const service = start('ready', (raw) => Object.assign(raw, { health: { address: '127.0.0.1', port: 0 } }));
    const { health: where } = await service.said(/^listening$/);
    const answer = await fetch(`http://${String(where)}/healthz/liveness`);
    assert.equal(answer.status, 200);
  });
});

describe('kms-plugin reload', () => {
  const reload = (...more: string[]) => verb('reload', '--config', fixture.at('kms-plugin.yml'), ...more);

  it('says what was taken, what needs a restart and what is wrong, with an exit status', async () => {
    const service = start();
    await service.said(/^listening$/);
    const nothing = reload();
    assert.deepEqual(
      [nothing.status, nothing.stdout],
      [0, `nothing new; ${fixture.at('kms-plugin.yml')} is in force\n`],
    );

    configuration((raw) => (raw['log'] = { level: 'warn' }));
    const taken = reload();
    assert.deepEqual([taken.status, taken.stdout], [0, 'taken: log.level\n']);

    configuration((raw) => {
      raw['log'] = { level: 'info' };
      raw.token['init_args'] = 'other';
    });
    const partly = reload();
    assert.deepEqual([partly.status, partly.stdout], [1, 'taken: log.level\nonly after a restart: token.init_args\n']);

    configuration((raw) => (raw['surprise'] = 1));
    const wrong = reload();
    assert.equal(wrong.status, 78);
    assert.match(
      wrong.stdout,
      /^wrong: surprise .*is not a known setting.*\nnothing was taken, the old configuration goes on\n$/,
    );
    assert.match(reload('--json').stdout, /"ok": false/);
    assert.equal(await health('readiness'), 200);

    configuration(() => undefined);
    await service.stop();
    assert.equal(reload().status, 69);
  });
});

describe('SIGHUP', () => {
  it('keeps the old configuration when the new one is faulty, and says every problem', async () => {
    const service = start();
    await service.said(/^listening$/);
    configuration((raw) => {
      raw['surprise'] = 1;
      delete raw.keys[0]?.['label'];
    });
    service.child.kill('SIGHUP');
    await service.said(/^the old configuration goes on/);
    const { lastReload } = await control().status();
    assert.equal(lastReload?.ok, false);
    assert.equal(lastReload.problems.length, 2);
    assert.match(lastReload.problems.join(), /surprise.*is not a known setting/);
    assert.ok(service.lines().filter(({ message }) => message.startsWith('new configuration not taken')).length === 2);
    assert.equal(await health('readiness'), 200);
  });

  it('takes certificate, level and keys, and names what needs a restart until then', async () => {
    const service = start();
    await service.said(/^listening$/);
    const before = (await control().status()).listeners[0]?.certificateExpires;
    const until = new Date(Date.now() + 40 * 86_400_000);
    fixture.certify('server2', { names: 'DNS:kms-plugin.test', issuer: fixture.ca, to: until });
    configuration((raw) => {
      Object.assign(tlsOf(raw), { certificate: 'server2.crt', private_key: 'server2.key' });
      raw['log'] = { level: 'debug' };
      raw.token['sessions'] = 3;
      raw.listeners.push({ name: 'third', endpoint: 'run/third.sock', apis: ['v2'] });
    });
    service.child.kill('SIGHUP');
    await service.said(/^new configuration taken$/);
    const status = await control().status();
    assert.notEqual(status.listeners[0]?.certificateExpires, before);
    assert.equal(status.logLevel, 'debug');
    assert.deepEqual(status.lastReload?.needsRestart, ['token.sessions', 'listeners[third]']);
    assert.deepEqual(
      status.listeners.map(({ name }) => name),
      ['credhub', 'kubernetes'],
    );
    const { taken } = status.lastReload;
    const tls = ['certificate', 'private_key'].map((name) => `listeners[credhub].tls.${name}`);
    assert.deepEqual(
      [...taken].sort(),
      [
        ...tls,
        'log.level',
        `listeners[credhub]: another certificate, until ${status.listeners[0]?.certificateExpires ?? ''}`,
      ].sort(),
    );
    // Unchanged since, and still not in force.
    const again = await control().reload();
    assert.deepEqual(again.needsRestart, status.lastReload.needsRestart);
    assert.deepEqual(again.taken, []);
  });

  it('takes a renewed certificate behind a CA that has run out, and says so in a warning', async () => {
    const past = { from: new Date(Date.now() - 2 * 86_400_000), to: new Date(Date.now() - 3_600_000) };
    fixture = new Fixture();
    const old = fixture.certify('old-ca', { ca: true, ...past });
    for (const name of ['first', 'second']) fixture.certify(name, { names: 'DNS:kms-plugin.test', issuer: old });
    const use = (name: string) =>
      configuration((raw) =>
        Object.assign(tlsOf(raw), { certificate: `${name}.crt`, private_key: `${name}.key`, ca: 'old-ca.crt' }),
      );
    const service = fakeService(use('first'), 'ready');
    running.push(service);
    await service.said(/^listening$/);
    use('second');
    service.child.kill('SIGHUP');
    await service.said(/^new configuration taken$/);
    assert.equal((await control().status()).lastReload?.ok, true);
    assert.ok(service.lines().some(({ message }) => /tls\.ca .*has run out.*roundtrip and doctor/.test(message)));
  });
});
