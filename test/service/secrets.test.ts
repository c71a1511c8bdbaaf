import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { roundTrip } from '../../src/api/index.ts';
import { loadConfig } from '../../src/config/index.ts';
import { ControlClient, type StatusReport } from '../../src/control/index.ts';
import { makeInstallation, type Installation } from './installation.ts';
import { program, verb, type Watched } from './processes.ts';

/** Ten random-looking bytes in the middle of each secret are enough to find it. */
const PIN = 'pin-7Qz3vK9xWm2T';
const VALUE = 'value-Jr8bN4cLp6Yh';

let installation: Installation;
let service: Watched;
const seen: { name: string; bytes: Buffer }[] = [];

before(async () => {
  installation = await makeInstallation({ pin: PIN });
  installation.configure((raw) => (raw['log'] = { level: 'debug' }));
});
after(async () => {
  service.kill();
  await service.ended();
  await installation.cleanup();
});

function keep(name: string, bytes: Buffer | string): void {
  seen.push({ name, bytes: Buffer.from(bytes) });
}

function keepProcess(pid: number, name: string): void {
  keep(`environment of ${name}`, readFileSync(`/proc/${pid}/environ`));
  keep(`command line of ${name}`, readFileSync(`/proc/${pid}/cmdline`));
}

function keepTree(directory: string): void {
  for (const entry of readdirSync(directory)) {
    const file = path.join(directory, entry);
    const found = statSync(file);
    if (found.isDirectory()) keepTree(file);
    else if (found.isFile()) keep(file, readFileSync(file));
  }
}

/** How a secret may look where it has leaked. */
function forms(secret: string): string[] {
  const core = Buffer.from(secret).subarray(3, 15);
  // Base64 of the same bytes looks different at each of three offsets.
  const base64 = [0, 1, 2].map((from) => core.subarray(from, from + 9).toString('base64'));
  return [core.toString(), core.toString('hex'), [...core].join(','), ...base64];
}

describe('what the program writes', () => {
  it('holds no PIN and no value: log, errors, environment, arguments, state_dir, verbs', async () => {
    service = program('serve', '--config', installation.config);
    await service.said(/^ready/);
    const config = loadConfig(installation.config);
    const [credhub, kubernetes] = config.listeners;
    assert.ok(credhub !== undefined && kubernetes !== undefined);
    const plaintext = Buffer.from(VALUE);
    const options = { plaintext, deadlineMs: 5000 } as const;
    const { ciphertext } = await roundTrip(credhub, { ...options, api: 'v1beta1' });
    await roundTrip(kubernetes, { ...options, api: 'v2' });
    // Failing calls are where values leak.
    const large = Buffer.alloc(2 << 20, VALUE);
    await assert.rejects(roundTrip(credhub, { api: 'v1beta1', plaintext: large, deadlineMs: 5000 }));
    const status: StatusReport = await new ControlClient(config.controlSocket).status();
    const tokenPid = status.token.process.pid ?? 0;
    keepProcess(service.pid, 'the plugin process');
    keepProcess(tokenPid, 'the token process');
    for (const pid of [service.pid, tokenPid]) {
      assert.match(readFileSync(`/proc/${pid}/limits`, 'utf8'), /^Max core file size +0 +0 /m);
      assert.equal(readFileSync(`/proc/${pid}/coredump_filter`, 'utf8').trim(), '00000000');
    }
    for (const args of [['status'], ['status', '--json'], ['keys', 'list'], ['pin'], ['check-config', '--json']]) {
      const { stdout, stderr } = verb(...args, '--config', installation.config);
      keep(`kms-plugin ${args.join(' ')}`, stdout + stderr);
    }
    // A refused PIN is one that is talked about.
    process.kill(tokenPid, 'SIGKILL');
    installation.fixture.write('pin', PIN.toUpperCase());
    await service.said(/^login refused|^token ready/);
    assert.equal(await service.stop(), 0);
    keep('standard output', service.stdout);
    keep('standard error', service.stderr);
    keepTree(config.stateDir);

    assert.ok(service.stdout.includes('"level":"debug"'), 'the log is at its most talkative');
    assert.ok(seen.some(({ name }) => name.startsWith(config.stateDir)));
    const secrets = [PIN, PIN.toUpperCase(), VALUE, VALUE.repeat(2)].flatMap(forms);
    secrets.push(ciphertext.subarray(26).toString('hex'), ciphertext.subarray(26).toString('base64'));
    const leaks = seen.filter(({ bytes }) => secrets.some((secret) => bytes.includes(secret)));
    assert.deepEqual(
      leaks.map(({ name }) => name),
      [],
    );
  });

  it('would be found out if it held one', () => {
    for (const leak of [VALUE, Buffer.from(VALUE).toString('hex'), Buffer.from(`x${VALUE}`).toString('base64')]) {
      assert.ok(
        forms(VALUE).some((form) => leak.includes(form)),
        leak,
      );
    }
  });
});
