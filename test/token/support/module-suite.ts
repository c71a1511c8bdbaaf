/**
 * The suite that every real module goes through, as a program of its own: some modules serve only processes that were
 * started in namespaces of theirs. Reads a ModuleJob on stdin, prints what it saw, fails at the first thing that is wrong.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { ownCall } from '../../../src/call/index.ts';
import { assertFails, Hosts, type Host, type Reach } from './installation.ts';

export interface ModuleJob {
  readonly reach: Reach;
  /** What the token must come to. */
  readonly profile: string;
  readonly scheme: number;
  readonly makesKeys: boolean;
}

/** Around a block, a limit of a module, the largest of CredHub's values, and the largest of all. */
const SIZES = [0, 1, 15, 16, 17, 31, 32, 33, 1_023, 1_024, 1_025, 4_047, 4_048, 16_384, 16_385, 65_000, 1_048_576];

const first = { label: 'first', macLabel: 'first-mac' };
const second = { label: 'second', macLabel: 'second-mac' };

async function roundTrips(host: Host): Promise<void> {
  for (const bytes of SIZES) {
    const plaintext = randomBytes(bytes);
    const ciphertext = await host.encrypt(plaintext);
    assert.ok(ciphertext.length - bytes <= 535);
    assert.deepEqual(await host.decrypt(ciphertext), plaintext, `${bytes} bytes`);
  }
}

async function damage(host: Host, ciphertext: Buffer): Promise<void> {
  // Scheme 4 has lengths before its data key.
  for (const at of [ciphertext[9] === 4 ? 40 : 26, 60, ciphertext.length - 33, ciphertext.length - 1]) {
    const copy = Buffer.from(ciphertext);
    copy.writeUInt8(copy.readUInt8(at) ^ 1, at);
    const { status } = await assertFails(host.decrypt(copy), 'not-authentic');
    assert.equal(status, 'INVALID_ARGUMENT');
  }
}

async function callers(host: Host): Promise<void> {
  await Promise.all(
    Array.from({ length: 32 }, async () => {
      for (let turn = 0; turn < 10; turn++) {
        const plaintext = randomBytes(80);
        assert.deepEqual(await host.decrypt(await host.encrypt(plaintext)), plaintext);
      }
    }),
  );
}

async function run(hosts: Hosts, job: ModuleJob): Promise<void> {
  const stateDir = hosts.newStateDir();
  const host = await hosts.readyHost({ keys: [first], stateDir });
  assert.equal(host.token.report().profile, job.profile);
  assert.equal(host.keyring.health().reason, 'ok');
  await roundTrips(host);
  await callers(host);
  const plaintext = Buffer.from('a value of some length');
  const ciphertext = await host.encrypt(plaintext);
  assert.equal(ciphertext[9], job.scheme);
  await damage(host, ciphertext);
  await damage(host, await host.encrypt(Buffer.alloc(20_000)));

  process.kill(host.token.report().process.pid ?? 0, 'SIGKILL');
  assert.deepEqual(await host.decrypt(ciphertext), plaintext, 'after the token process was killed');
  await host.close();
  const again = await hosts.readyHost({ keys: [first], stateDir });
  assert.deepEqual(await again.decrypt(ciphertext), plaintext, 'after a restart');
  await again.close();

  const rotated = await hosts.readyHost({ keys: [second, first], stateDir });
  assert.deepEqual(await rotated.decrypt(ciphertext), plaintext, 'under the key that only decrypts');
  const later = await rotated.encrypt(plaintext);
  assert.notDeepEqual(later.subarray(10, 26), ciphertext.subarray(10, 26));
  // The other key's id on it: the key is there, and another one than made it.
  later.copy(ciphertext, 10, 10, 26);
  await assertFails(rotated.decrypt(ciphertext), 'not-authentic');
  assert.deepEqual(await rotated.decrypt(later), plaintext);

  const create = rotated.keyring.createKey('made here', ownCall(10_000));
  if (job.makesKeys) {
    const made = await create;
    assert.deepEqual(made.problems, []);
    assert.equal(made.attributes['sensitive'], true);
    assert.equal(made.attributes['extractable'], false);
    assert.equal(made.attributes['derive'] === true, false);
  } else {
    await assertFails(create, 'key-create-refused');
  }
  await rotated.close();
}

const job = JSON.parse(readFileSync(0, 'utf8')) as ModuleJob;
const hosts = new Hosts(job.reach);
run(hosts, job)
  .finally(async () => {
    await hosts.closeAll();
    hosts.removeState();
  })
  .catch((error: unknown) => {
    console.error(error);
    process.exitCode = 1;
  });
