/** A start that fails after the token process was started, on a real token. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { makeInstallation, type Installation } from './installation.ts';
import { program, Watched } from './processes.ts';

const root = path.resolve(import.meta.dirname, '../..');

let installation: Installation;
const services: Watched[] = [];

before(async () => {
  installation = await makeInstallation();
});
after(async () => {
  for (const service of services) service.kill();
  await installation.cleanup();
});

/** Waits for the end of a start that fails; its token process must be gone before it, and its lock free. */
async function failed(service: Watched): Promise<string> {
  services.push(service);
  const { pid } = await service.said(/^token process started$/);
  assert.equal(await service.ended(), 1);
  assert.ok(!existsSync(`/proc/${Number(pid)}`), 'the token process has outlived the plugin process');
  const lock = spawnSync('flock', ['--nonblock', installation.fixture.at('state/serve.lock'), 'true']);
  assert.equal(lock.status, 0);
  return service.lines().find(({ message }) => message.startsWith('cannot serve: '))?.message ?? '';
}

describe('a start that fails when the token process is on its way', () => {
  it("ends it, where another program's socket is in the way", async () => {
    const { fixture, config } = installation;
    mkdirSync(fixture.at('run'), { recursive: true });
    const other: Server = createServer().listen(fixture.at('run/credhub.sock'));
    await new Promise((resolve) => other.once('listening', resolve));
    try {
      assert.match(await failed(program('serve', '--config', config)), /credhub\.sock/);
    } finally {
      await new Promise((resolve) => other.close(resolve));
    }
  });

  it('ends it, where a file of the installation is missing', async () => {
    const { fixture, config } = installation;
    const damaged = fixture.at('damaged');
    cpSync(path.join(root, 'dist'), path.join(damaged, 'dist'), { recursive: true });
    symlinkSync(path.join(root, 'node_modules'), path.join(damaged, 'node_modules'));
    rmSync(path.join(damaged, 'dist/grpc-js.cjs'));
    const service = new Watched([path.join(damaged, 'dist/kms-plugin.cjs'), 'serve', '--config', config]);
    assert.match(await failed(service), /grpc-js\.cjs/);
  });
});
