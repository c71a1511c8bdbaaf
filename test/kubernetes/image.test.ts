/** What is in the image, and what is not. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { softHsmModule } from '../hsm/index.ts';
import { Image, version } from './support/image.ts';

const root = path.resolve(import.meta.dirname, '../..');
const image = new Image();
const again = new Image();

before(async () => {
  await image.create();
  await image.unpack();
  await again.create('--with', softHsmModule());
  await again.unpack();
});
after(() => {
  image.remove();
  again.remove();
});

const files = ({ rootfs }: Image): readonly string[] =>
  readdirSync(rootfs, { recursive: true, encoding: 'utf8' }).map((name) => `/${name}`);

describe('the image', () => {
  it('comes out the same again, and an HSM is a layer on top', () => {
    const [system, plugin, ...rest] = again.layers;
    assert.deepEqual([system, plugin], image.layers);
    assert.equal(rest.length, 1);
    const added = files(again).filter((name) => !files(image).includes(name));
    assert.ok(added.includes(softHsmModule()), added.join('\n'));
    assert.ok(added.some((name) => name.includes('/libcrypto.so')));
  });

  it('has a name for every tool that imports it', () => {
    assert.deepEqual(image.descriptor.annotations, {
      'io.containerd.image.name': `localhost/hsm-kms-plugin:${version}`,
      'org.opencontainers.image.ref.name': version,
    });
  });

  it('is small', () => {
    const bytes = image.layers.reduce((sum, { size }) => sum + size, 0);
    assert.ok(bytes < 64e6, `${bytes} bytes`);
  });

  it('has four programs, none of them a shell', () => {
    const programs = readdirSync(path.join(image.rootfs, 'usr/bin')).toSorted();
    assert.deepEqual(programs, ['flock', 'kms-plugin', 'node', 'prlimit']);
  });

  it('has the pinned Node.js', () => {
    const [wanted] = readFileSync(path.join(root, 'scripts/node.sha256'), 'utf8').split(' ');
    const found = createHash('sha256').update(readFileSync(path.join(image.rootfs, 'usr/bin/node')));
    assert.equal(found.digest('hex'), wanted);
  });

  it('belongs to root, and nobody else can change it', () => {
    for (const name of files(again)) {
      const found = lstatSync(path.join(again.rootfs, name));
      assert.deepEqual([found.uid, found.gid], [0, 0], name);
      if (name === '/tmp') continue;
      assert.ok(found.isSymbolicLink() || (found.mode & 0o7022) === 0, `${name} has mode ${found.mode.toString(8)}`);
      assert.ok(found.isSymbolicLink() || (found.mode & 0o004) !== 0, `${name} cannot be read by the plugin's user`);
    }
  });

  it('runs as a user of its own', () => {
    const { process } = JSON.parse(readFileSync(path.join(image.bundle, 'config.json'), 'utf8')) as {
      process: { user: object; args: readonly string[] };
    };
    assert.deepEqual(process.user, { uid: 20358, gid: 20358 });
    assert.deepEqual(process.args, ['/usr/bin/kms-plugin', 'serve']);
  });

  it('tells scanners which packages its files come from', () => {
    const packages = readdirSync(path.join(image.rootfs, 'var/lib/dpkg/status.d'));
    for (const name of ['libc6', 'libstdc++6', 'util-linux']) {
      assert.ok(packages.includes(name), packages.join());
      const record = readFileSync(path.join(image.rootfs, 'var/lib/dpkg/status.d', name), 'utf8');
      assert.match(record, /^Version: /m);
    }
  });
});
