/** The audit trail of the bundled program on SoftHSM2: off by default, rotated and switched by SIGHUP. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, renameSync, statSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { KmsClient } from '../api/support/clients.ts';
import { until } from '../api/support/fixture.ts';
import { makeInstallation, type Installation } from '../service/installation.ts';
import { program, type Watched } from '../service/processes.ts';

describe('the audit trail of a service', () => {
  let installation: Installation;
  let service: Watched;
  let client: KmsClient;
  let file: string;

  before(async () => {
    installation = await makeInstallation();
    file = installation.fixture.at('audit.log');
    service = program('serve', '--config', installation.config);
    await service.said(/^ready/);
    client = new KmsClient(installation.fixture.at('run/kubernetes.sock'));
  });
  after(async () => {
    client.close();
    service.kill();
    await service.ended();
    await installation.cleanup();
  });

  const withTrail = (change: (raw: Record<string, unknown>) => void = () => undefined): void =>
    installation.configure((raw) => {
      raw['audit'] = { file: 'audit.log' };
      change(raw);
    });
  const uidsIn = (name: string): unknown[] =>
    existsSync(name)
      ? readFileSync(name, 'utf8')
          .trimEnd()
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => (JSON.parse(line) as { uid?: unknown }).uid)
      : [];
  const encrypt = async (uid: string): Promise<void> => {
    const { v2 } = client;
    const { error } = await client.call(v2.Encrypt, v2, { plaintext: Buffer.from('a secret value'), uid });
    assert.equal(error, undefined);
  };
  /** SIGHUP, and the line that says that it was acted on. */
  const reload = async (said: RegExp): Promise<void> => {
    const seen = service.lines().filter(({ message }) => said.test(message)).length;
    service.child.kill('SIGHUP');
    await until(() => service.lines().filter(({ message }) => said.test(message)).length > seen);
  };

  it('is off unless the configuration names a file', async () => {
    await encrypt('unseen');
    withTrail();
    assert.equal(existsSync(file), false);
  });

  it('begins at SIGHUP, mode 0600, and holds no value', async () => {
    await reload(/^new configuration taken/);
    await encrypt('first');
    await until(() => uidsIn(file).length === 1);
    assert.deepEqual(uidsIn(file), ['first']);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const text = readFileSync(file, 'utf8');
    for (const form of ['utf8', 'base64', 'hex'] as const) {
      assert.ok(!text.includes(Buffer.from('a secret value').toString(form)));
    }
  });

  it('goes on in a new file at SIGHUP, even when the configuration has become faulty', async () => {
    renameSync(file, `${file}.1`);
    installation.configure((raw) => (raw['audit'] = { fiel: 'audit.log' }));
    await reload(/^the old configuration goes on/);
    await encrypt('second');
    await until(() => uidsIn(file).length === 1);
    assert.deepEqual([uidsIn(`${file}.1`), uidsIn(file)], [['first'], ['second']]);
  });

  it('ends at SIGHUP when the configuration names it no more', async () => {
    installation.configure();
    await reload(/^new configuration taken/);
    await encrypt('unseen');
    await service.said(/^audit trail$/);
    assert.deepEqual(uidsIn(file), ['second']);
  });

  it('has the last operations when the service stops', async () => {
    withTrail();
    await reload(/^new configuration taken/);
    await Promise.all(Array.from({ length: 20 }, (_, number) => encrypt(`last-${number}`)));
    assert.equal(await service.stop(), 0);
    assert.equal(uidsIn(file).length, 21);
  });
});
