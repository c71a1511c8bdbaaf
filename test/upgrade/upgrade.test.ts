/**
 * What a release wrote, the next one reads. The files beside this one were written once, by the program of their name,
 * and are never made again: a SoftHSM2 token, its ciphertexts, and `state_dir` with and without a refused PIN.
 */
import assert from 'node:assert/strict';
import { chmodSync, cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { status as Status } from '@grpc/grpc-js';
import { KmsClient } from '../api/support/clients.ts';
import { softHsmModule } from '../hsm/softhsm.ts';
import { freePort } from '../service/installation.ts';
import { program, verb, type Watched } from '../service/processes.ts';

const PIN = '824713';
const WRONG_PIN = '111111';
const KEYS = `  - { label: direct, state: active }
  - { label: older, state: decrypt }
  - { label: pair, state: decrypt }`;

interface Written {
  readonly name: string;
  readonly bytes: number;
  /** Base64. */
  readonly ciphertext: string;
}

/** The plaintext of every ciphertext of that length. */
const value = (bytes: number): Buffer => Buffer.from(Array.from({ length: bytes }, (_, at) => (at * 7) % 251));

/** A copy of what one release left behind, and the present program on it. */
class Place {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'upgrade-'));
  readonly #release: string;
  healthPort = 0;

  constructor(release: string) {
    this.#release = path.join(import.meta.dirname, release);
    for (const name of ['tokens', 'state', 'state-refused']) {
      cpSync(path.join(this.#release, name), this.at(name), { recursive: true });
      // Git keeps no modes.
      chmodSync(this.at(name), 0o700);
    }
    writeFileSync(
      this.at('softhsm2.conf'),
      `directories.tokendir = ${this.at('tokens')}\nobjectstore.backend = file\nlog.level = ERROR\n`,
    );
  }

  at(name: string): string {
    return path.join(this.directory, name);
  }

  read(name: string): string {
    return readFileSync(path.join(this.#release, name), 'utf8');
  }

  get ciphertexts(): readonly Written[] {
    return JSON.parse(this.read('ciphertexts.json')) as Written[];
  }

  async configure({ keys = KEYS, state = 'state', pin = PIN } = {}): Promise<string> {
    this.healthPort = await freePort();
    writeFileSync(this.at('pin'), pin, { mode: 0o600 });
    writeFileSync(
      this.at('kms-plugin.yml'),
      `state_dir: ${state}
listeners:
  - { name: kubernetes, endpoint: k.sock, apis: [v1beta1, v2] }
token:
  module: ${softHsmModule()}
  partition: { label: upgrade }
  pin_file: pin
  environment: { SOFTHSM2_CONF: ${this.at('softhsm2.conf')} }
  sessions: 4
keys:
${keys}
health: { port: ${this.healthPort} }
limits: { shutdown: 3s }
`,
    );
    return this.at('kms-plugin.yml');
  }

  /** Serves, and ends with the test. */
  serve(t: TestContext): Watched {
    const service = program('serve', '--config', this.at('kms-plugin.yml'));
    t.after(async () => {
      await service.stop();
      rmSync(this.directory, { recursive: true, force: true });
    });
    return service;
  }

  client(t: TestContext): KmsClient {
    const client = new KmsClient(this.at('k.sock'));
    t.after(() => client.v1.close());
    return client;
  }
}

for (const release of ['before-1.0.0']) {
  test(`${release}: every ciphertext that it wrote is decrypted`, async (t) => {
    const place = new Place(release);
    await place.configure();
    await place.serve(t).said(/ready: calls succeed/);
    const client = place.client(t);
    const schemes = new Set<number>();
    for (const { name, bytes, ciphertext } of place.ciphertexts) {
      const cipher = Buffer.from(ciphertext, 'base64');
      const { response, error } = await client.decrypt(cipher);
      assert.equal(error, undefined, `${name}, ${bytes} bytes`);
      assert.deepEqual(response?.plain, value(bytes), `${name}, ${bytes} bytes`);
      schemes.add(cipher.readUInt8(9));
    }
    assert.deepEqual([...schemes].sort(), [1, 3, 4]);
  });

  test(`${release}: the active key goes on writing the id that state_dir remembers, and IVs are counted on`, async (t) => {
    const place = new Place(release);
    const ids = JSON.parse(readFileSync(place.at('state/key-ids.json'), 'utf8')) as {
      labels: { direct: { written: string } };
    };
    const { written } = ids.labels.direct;
    const counts = JSON.parse(readFileSync(place.at('state/iv-counts.json'), 'utf8')) as Record<string, number>;
    await place.configure();
    await place.serve(t).said(/ready: calls succeed/);
    const { response } = await place.client(t).encrypt(value(16));
    assert.equal(response?.cipher.toString('hex', 10, 26), written);
    const page = await (await fetch(`http://127.0.0.1:${place.healthPort}/metrics`)).text();
    const counted = new RegExp(`kms_plugin_key_ivs_used_total{[^}]*key_id="${written}"[^}]*} (\\d+)`).exec(page)?.[1];
    assert.ok(Number(counted) > (counts[written] ?? Infinity), `counted ${counted}`);
  });

  test(`${release}: a PIN that the token refused then is not tried now`, async (t) => {
    const place = new Place(release);
    await place.configure({ state: 'state-refused', pin: WRONG_PIN });
    const line = await place.serve(t).said(/login refused/);
    assert.match(line.message, /2026-11-28T16:07:04/, 'it names the refusal of then, so it made none of its own');
  });

  test(`${release}: no key is made under a label that state_dir remembers`, async (t) => {
    const place = new Place(release);
    const [token = ''] = readdirSync(place.at('tokens'));
    const objects = (): string[] =>
      readdirSync(place.at(`tokens/${token}`)).filter((name) => /-.*\.object$/.test(name));
    for (const object of objects()) rmSync(place.at(`tokens/${token}/${object}`));
    await place.configure({ keys: '  - { label: older, state: active, create: true }' });
    await place.serve(t).said(/listening/);
    const { error } = await place.client(t).encrypt(value(16), { deadlineMs: 8_000 });
    assert.equal(error?.code, Status.FAILED_PRECONDITION, error?.message);
    assert.deepEqual(objects(), []);
  });

  test(`${release}: status and metrics have every name that they had`, async (t) => {
    const place = new Place(release);
    const config = await place.configure();
    await place.serve(t).said(/ready: calls succeed/);
    await place.client(t).encrypt(value(16));
    const then = JSON.parse(place.read('status.json')) as unknown;
    const now = JSON.parse(verb('status', '--json', '--config', config).stdout) as unknown;
    const gone = [...names(then)].filter((name) => !names(now).has(name));
    assert.deepEqual(gone, []);
    const page = await (await fetch(`http://127.0.0.1:${place.healthPort}/metrics`)).text();
    const missing = place
      .read('metrics.txt')
      .trim()
      .split('\n')
      .filter((name) => !page.includes(`# TYPE ${name} `));
    assert.deepEqual(missing, []);
  });
}

/** Every field's path in a JSON value; the entries of a list share theirs. What errors add comes and goes. */
function names(value: unknown, at = ''): Set<string> {
  if (typeof value !== 'object' || value === null) return new Set([at]);
  const found = new Set<string>();
  for (const [name, child] of Object.entries(value)) {
    const inside = Array.isArray(value) ? `${at}[]` : `${at}.${name}`;
    for (const each of names(child, inside)) found.add(each);
  }
  return found;
}
