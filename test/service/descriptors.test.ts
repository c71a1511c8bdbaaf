/** A token process that ends while no file can be opened any more, on a real token. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { it } from 'node:test';
import { KmsClient, statusOf } from '../api/support/clients.ts';
import { until } from '../api/support/fixture.ts';
import { makeInstallation } from './installation.ts';
import { program } from './processes.ts';

const FEWER_THAN_ARE_OPEN = 10;

function limitOpenFiles(pid: number, files: number): void {
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${files}:`]);
}

it('outlives that its token process cannot be started for want of descriptors, and starts it as soon as it can', async (t) => {
  const installation = await makeInstallation();
  t.after(() => installation.cleanup());
  const service = program('serve', '--config', installation.config);
  t.after(async () => {
    service.kill();
    await service.ended();
  });
  await service.said(/^ready: calls succeed$/);
  const { pid } = await service.said(/^token process started$/);
  const client = new KmsClient(installation.fixture.at('run/kubernetes.sock'));
  t.after(() => client.close());
  assert.equal(statusOf(await client.encrypt(Buffer.from('before'))), 'OK');

  limitOpenFiles(service.pid, FEWER_THAN_ARE_OPEN);
  process.kill(Number(pid), 'SIGKILL');
  const { reason } = await service.said(/^the token process cannot be started$/);
  assert.match(String(reason), /too many files are open: raise the limit/);
  limitOpenFiles(service.pid, 1_024);

  await until(() => service.lines().filter(({ message }) => message === 'token process started').length === 2);
  assert.equal(statusOf(await client.encrypt(Buffer.from('after'))), 'OK');
  assert.equal(await service.stop(), 0);
});
