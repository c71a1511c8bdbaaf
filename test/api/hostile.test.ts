/** Clients that try to use the plugin's memory up, beside one that means well. In real time: about half a minute for each kind. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { KmsClient, statusOf } from './support/clients.ts';
import { pause, temporaryDirectory } from './support/fixture.ts';

const MIB = 1 << 20;
const MOST_RSS = 512 * MIB;
const ATTACK_MS = 15_000;
const AFTERWARDS_MS = 20_000;

/** As the plugin is started: jobs/kms-plugin/templates/kms-plugin.erb, scripts/lib/oci-layout.mjs. */
const MALLOC = { MALLOC_ARENA_MAX: '1' };

async function started(t: TestContext, script: string, ...args: string[]): Promise<ChildProcess> {
  const file = path.join(import.meta.dirname, 'support', script);
  const child = spawn(process.execPath, ['--max-semi-space-size=8', '--import', 'tsx', file, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...MALLOC },
  });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

function residentBytes({ pid }: ChildProcess): number {
  const kilobytes = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes) * 1024;
}

for (const kind of ['unfinished', 'gzip', 'unread']) {
  test(`64 connections of the kind "${kind}" stay within the memory, and an honest client beside them is served`, async (t) => {
    const socket = path.join(temporaryDirectory(t), 'kms.sock');
    const server = await started(t, 'alone.ts', socket);
    const honest = new KmsClient(socket);
    t.after(() => honest.close());
    const value = Buffer.alloc(1_000, 0x62);
    // As CredHub: one connection, some calls at once, no deadline.
    const turn = async (): Promise<void> => {
      const answers = await Promise.all(Array.from({ length: 10 }, () => honest.encrypt(value)));
      for (const answer of answers) assert.equal(statusOf(answer), 'OK', answer.error?.details);
    };
    for (let count = 0; count < 100; count++) await turn();
    const before = residentBytes(server);

    const attacker = await started(t, 'hostile.ts', socket, kind);
    const end = performance.now() + ATTACK_MS;
    let most = 0;
    let turns = 0;
    let slowest = 0;
    while (performance.now() < end) {
      const asked = performance.now();
      await turn();
      slowest = Math.max(slowest, performance.now() - asked);
      turns++;
      most = Math.max(most, residentBytes(server));
      await pause(10);
    }
    attacker.kill('SIGKILL');
    const relaxed = performance.now() + AFTERWARDS_MS;
    while (residentBytes(server) > before * 1.5 && performance.now() < relaxed) {
      await turn();
      await pause(500);
    }
    const after = residentBytes(server);
    server.kill('SIGTERM');
    const told = server.stdout === null ? [] : ((await once(server.stdout, 'data')) as [Buffer]);
    const mib = (bytes: number): string => (bytes / MIB).toFixed();
    t.diagnostic(
      `RSS ${mib(before)}, at most ${mib(most)}, then ${mib(after)} MiB; ${turns} turns, the slowest ${slowest.toFixed()} ms`,
    );
    t.diagnostic(String(told[0]));
    assert.ok(most < MOST_RSS, `${mib(most)} MiB`);
  });
}
