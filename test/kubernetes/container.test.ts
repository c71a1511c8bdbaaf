/** The image under runc, with the manifests as they are: what differs from a real node is SoftHSM2 and a free health port. */
import assert from 'node:assert/strict';
import { lstatSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { roundTrip } from '../../src/api/index.ts';
import type { ListenerConfig } from '../../src/config/index.ts';
import type { KeyReport } from '../../src/keyring/index.ts';
import type { Raw } from '../config/fixtures.ts';
import { freePort } from '../service/installation.ts';
import { Container } from './support/container.ts';
import { Image } from './support/image.ts';
import type { Probe } from './support/manifests.ts';
import { ClusterNode } from './support/node.ts';

const FIRST = 'kubernetes-2026';
const SECOND = 'kubernetes-2027';
const image = new Image();
const node = new ClusterNode();
const socket = '/var/lib/kms-plugin/socket/kms.sock';
let healthPort = 0;

/** What an operator changes, with their HSM's values. */
const forSoftHsm = (raw: Raw): void => {
  raw.token['environment'] = { LD_LIBRARY_PATH: '/opt/hsm/lib', SOFTHSM2_CONF: '/etc/kms-plugin/softhsm2.conf' };
  raw['health'] = { address: '127.0.0.1', port: healthPort };
};

before(async () => {
  healthPort = await freePort();
  await image.create('--with', node.module);
  await image.unpack();
  await node.prepare([FIRST, SECOND]);
});

after(async () => {
  image.remove();
  await node.remove();
});

async function within<T>(what: string, container: Container, found: () => Promise<T | undefined>): Promise<T> {
  const end = performance.now() + 60_000;
  for (;;) {
    const value = await found();
    if (value !== undefined) return value;
    if (performance.now() > end) throw new Error(`${what} never came:\n${container.log}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** As the kubelet asks, on the port of this test. */
async function probe({ httpGet }: Probe): Promise<boolean> {
  const url = `http://${httpGet.host}:${healthPort}${httpGet.path}`;
  return await fetch(url).then(
    ({ ok }) => ok,
    () => false,
  );
}

/** A value through the socket as it is on the host, as kube-apiserver sends it. @returns the key's id. */
async function trip(plaintext = Buffer.alloc(32, 7)): Promise<string | undefined> {
  const listener: ListenerConfig = {
    name: 'kubernetes',
    endpoint: { kind: 'path', path: node.at(socket) },
    apis: ['v2'],
    mode: 0o600,
    patienceMs: 0,
    allowUnprotected: false,
  };
  const done = await roundTrip(listener, { api: 'v2', plaintext, deadlineMs: 10_000 });
  assert.deepEqual(done.plaintext, plaintext);
  assert.ok(!done.ciphertext.includes(plaintext));
  return done.keyId;
}

describe('the image', () => {
  it('takes the configuration in manifests/ as it is', async () => {
    node.configure();
    const container = new Container(image, node);
    try {
      assert.equal(await container.start(['check-config']), 0, container.log);
      assert.match(container.log, /good\s*$/);
    } finally {
      await container.remove();
    }
  });

  it('serves a library that was added to it as well as one of the host', async () => {
    node.configure((raw) => {
      forSoftHsm(raw);
      raw.token['module'] = node.module;
      raw.token['environment'] = { SOFTHSM2_CONF: '/etc/kms-plugin/softhsm2.conf' };
    });
    const container = new Container(image, node);
    try {
      void container.start();
      await within('readiness', container, async () => (await probe(container.spec.readinessProbe)) || undefined);
      await trip();
      assert.equal(await container.terminate(), 0, container.log);
    } finally {
      await container.remove();
    }
  });
});

describe('the pod', () => {
  let container: Container;
  const ready = (): Promise<boolean> =>
    within('readiness', container, async () => (await probe(container.spec.readinessProbe)) || undefined);
  const keysListed = async (): Promise<readonly KeyReport[]> => {
    const { stdout } = await container.exec('kms-plugin', 'keys', 'list', '--json');
    return JSON.parse(stdout) as readonly KeyReport[];
  };

  before(async () => {
    node.configure(forSoftHsm);
    container = new Container(image, node);
    void container.start();
    await ready();
  });
  after(() => container.remove());

  it('is live and answers kube-apiserver', async () => {
    assert.equal(await probe(container.spec.livenessProbe), true);
    assert.match((await trip()) ?? '', /^[0-9a-f]{32}$/);
  });

  it('starts without a warning', () => {
    assert.doesNotMatch(container.log, /"level":"(warn|error)"/);
  });

  it('has no rights, in the plugin process and in the token process', async () => {
    const program = `
      const { readdirSync, readFileSync } = require('node:fs');
      const read = (pid, name) => readFileSync('/proc/' + pid + '/' + name, 'utf8');
      const all = readdirSync('/proc').filter((name) => Number(name) > 0 && Number(name) !== process.pid);
      const pick = (text, name) => text.match(new RegExp('^' + name + '\\\\s+(.*)$', 'm'))[1].trim().split(/\\s+/).join(' ');
      console.log(JSON.stringify(all.map((pid) => ({
        program: read(pid, 'cmdline').split('\\0').find((word) => /kms-plugin$|token-process/.test(word)),
        uid: pick(read(pid, 'status'), 'Uid:'), gid: pick(read(pid, 'status'), 'Gid:'),
        capabilities: ['CapInh:', 'CapPrm:', 'CapEff:', 'CapBnd:', 'CapAmb:'].map((name) => pick(read(pid, 'status'), name)).join(),
        noNewPrivileges: pick(read(pid, 'status'), 'NoNewPrivs:'), seccomp: pick(read(pid, 'status'), 'Seccomp:'),
        core: pick(read(pid, 'limits'), 'Max core file size'), filter: read(pid, 'coredump_filter').trim(),
      }))));`;
    const { stdout, stderr } = await container.exec('node', '-e', program);
    assert.equal(stderr, '');
    const expected = (name: string) => ({
      program: name,
      uid: '20358 20358 20358 20358',
      gid: '20358 20358 20358 20358',
      capabilities: Array(5).fill('0000000000000000').join(),
      noNewPrivileges: '1',
      seccomp: '2',
      core: '0 0 bytes',
      filter: '00000000',
    });
    assert.deepEqual(JSON.parse(stdout), [
      expected('/usr/bin/kms-plugin'),
      expected('/usr/lib/kms-plugin/dist/token-process.cjs'),
    ]);
  });

  it('can write to nothing but its own directories', async () => {
    for (const [place, trouble] of [
      ['/written', 'EROFS'],
      ['/usr/lib/kms-plugin/dist/written', 'EROFS'],
      ['/tmp/written', 'EROFS'],
      ['/etc/kms-plugin/written', 'EROFS'],
      ['/opt/hsm/lib/written', 'EROFS'],
    ] as const) {
      const { stdout } = await container.exec(
        'node',
        '-e',
        "try { fs.writeFileSync(process.argv[1], ''); console.log('ok') } catch (error) { console.log(error.code) }",
        place,
      );
      assert.equal(stdout.trim(), trouble, place);
    }
  });

  it('gives its socket to nobody else', () => {
    const { mode, uid } = lstatSync(node.at(socket));
    assert.deepEqual([mode & 0o777, uid], [0o600, 20358]);
  });

  it('answers an operator without a shell', async () => {
    const status = await container.exec('kms-plugin', 'status');
    assert.equal(status.status, 0, status.stderr);
    assert.match(status.stdout, /ready, encrypting with key [0-9a-f]{32}/);
    assert.notEqual((await container.exec('sh', '-c', 'true')).status, 0);
  });

  it('rotates in two steps, and tells before each whether the host can decrypt', async () => {
    const old = await trip();
    const lists = (first: string, second: string) => (raw: Raw) => {
      forSoftHsm(raw);
      raw.keys = [
        { label: FIRST, state: first },
        { label: SECOND, state: second },
      ];
    };
    const reload = () => container.exec('kms-plugin', 'reload');
    node.configure(lists('active', 'decrypt'));
    await reload();
    const next = await within('the second key', container, async () => {
      const key = (await keysListed()).find(({ label }) => label === SECOND);
      return key?.found[0]?.keyIds[0];
    });
    assert.notEqual(next, old);
    assert.equal(await trip(), old);

    node.configure(lists('decrypt', 'active'));
    await reload();
    await within('the change', container, async () => ((await trip()) === next ? true : undefined));
    assert.equal((await keysListed()).find(({ label }) => label === FIRST)?.found[0]?.keyIds[0], old);
  });

  it('ends when it is told to, and comes back with the same key', async () => {
    const before = await trip();
    assert.equal(await container.terminate(), 0, container.log);
    assert.equal(lstatSync(node.at(socket), { throwIfNoEntry: false }), undefined);
    container = new Container(image, node);
    void container.start();
    await ready();
    assert.equal(await trip(), before);
  });
});
