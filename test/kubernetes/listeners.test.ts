/** What an operator is told at the start about listeners for kube-apiserver that should be looked at. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, describe, it } from 'node:test';
import { stringify } from 'yaml';
import { roundTrip } from '../../src/api/index.ts';
import { loadConfig } from '../../src/config/index.ts';
import { ControlClient } from '../../src/control/index.ts';
import { Fixture, type Raw } from '../config/fixtures.ts';
import { freePort } from '../service/installation.ts';
import { fakeService, type Watched } from '../service/processes.ts';

const running: Watched[] = [];
after(() => running.forEach((each) => each.kill()));

async function start(change: (raw: Raw) => void): Promise<{ fixture: Fixture; service: Watched }> {
  const fixture = new Fixture();
  const raw: Raw = { ...fixture.good(), health: { port: await freePort() } };
  change(raw);
  const service = fakeService(fixture.write('kms-plugin.yml', stringify(raw)));
  running.push(service);
  return { fixture, service };
}

const deprecated = (service: Watched) =>
  service.lines().filter(({ kind }) => kind === 'deprecated').map(({ level, message, listener }) => ({ level, message, listener })); // prettier-ignore

describe('KMS v1 without TLS', () => {
  it('is said to be deprecated, once for each listener', async () => {
    const { service } = await start(() => undefined);
    await service.said(/^KMS v1/);
    const message = 'KMS v1 (v1beta1) without TLS is for kube-apiserver, where it is deprecated: v2 takes its place';
    assert.deepEqual(deprecated(service), [{ level: 'info', message, listener: 'kubernetes' }]);
    assert.equal(await service.stop(), 0);
  });

  it('is not spoken of where CredHub has v1beta1 and kube-apiserver v2', async () => {
    const { service } = await start((raw) => {
      raw.listeners[1] = { ...raw.listeners[1], apis: ['v2'] };
    });
    await service.said(/^listening$/);
    assert.equal(await service.stop(), 0);
    assert.deepEqual(deprecated(service), []);
  });
});

describe('an abstract socket', () => {
  const name = `kms-plugin-${randomBytes(6).toString('hex')}`;
  const abstract = (changes: object) => (raw: Raw) => {
    raw.listeners[1] = { name: 'kubernetes', endpoint: `unix:///@${name}`, apis: ['v2'], ...changes };
  };

  it('is refused until it is allowed, and the reason is given', async () => {
    const { service } = await start(abstract({}));
    assert.equal(await service.ended(), 78);
    assert.match(service.stderr, /no access control.*every process in the network namespace.*allow_unprotected: true/);
  });

  it('serves when it is allowed, with a warning that says why, in the log and in status', async () => {
    const { fixture, service } = await start(abstract({ allow_unprotected: true }));
    await service.said(/^listening$/);
    const warning = /listeners\[1\]\.endpoint.*abstract socket: every process in the network namespace can decrypt/;
    assert.equal(service.lines().filter(({ level, message }) => level === 'warn' && warning.test(message)).length, 1);
    const { warnings } = await new ControlClient(fixture.at('state/control.sock')).status();
    assert.match(warnings.join('\n'), warning);
    const listener = loadConfig(fixture.at('kms-plugin.yml')).listeners[1];
    assert.ok(listener);
    const plaintext = randomBytes(32);
    const trip = await roundTrip(listener, { api: 'v2', plaintext, deadlineMs: 10_000 });
    assert.deepEqual(trip.plaintext, plaintext);
    assert.equal(await service.stop(), 0);
  });
});
