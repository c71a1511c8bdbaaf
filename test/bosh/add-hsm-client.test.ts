/** scripts/add-hsm-client: packages of a vendor's .deb, .rpm and .tar, compiled as on a compilation VM. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { parse } from 'yaml';
import { softHsmModule } from '../hsm/index.ts';
import { compile } from './vm/compile.ts';
import { root } from './render.ts';

const work = mkdtempSync(path.join(tmpdir(), 'kms-client-'));
const clone = path.join(work, 'clone');
const vendor = path.join(work, 'vendor');
test.after(() => rmSync(work, { recursive: true }));

test.before(() => {
  mkdirSync(clone);
  for (const part of ['scripts', 'config', 'packages', 'jobs'])
    cpSync(path.join(root, part), path.join(clone, part), { recursive: true });
  const lib = path.join(vendor, 'tree/opt/acme/lib');
  mkdirSync(path.join(vendor, 'tree/opt/acme/etc'), { recursive: true });
  mkdirSync(lib);
  copyFileSync(softHsmModule(), path.join(lib, 'libacme.so.1'));
  symlinkSync('/opt/acme/lib/libacme.so.1', path.join(lib, 'libacme.so'));
  writeFileSync(path.join(vendor, 'tree/opt/acme/etc/acme.conf'), 'x\n', { mode: 0o600 });
  writeFileSync(path.join(vendor, 'tree/opt/acme/tool'), '#!/bin/sh\n', { mode: 0o4755 });
});

const make = {
  deb: (): string => {
    const tree = path.join(vendor, 'deb');
    cpSync(path.join(vendor, 'tree'), tree, { recursive: true, verbatimSymlinks: true });
    mkdirSync(path.join(tree, 'DEBIAN'));
    writeFileSync(
      path.join(tree, 'DEBIAN/control'),
      'Package: acme\nVersion: 1\nArchitecture: amd64\nMaintainer: acme\nDescription: acme\n',
    );
    writeFileSync(path.join(tree, 'DEBIAN/postinst'), '#!/bin/sh\ntouch /tmp/acme-was-run\n', { mode: 0o755 });
    execFileSync('dpkg-deb', ['--root-owner-group', '-b', tree, path.join(vendor, 'acme.deb')], { stdio: 'pipe' });
    return path.join(vendor, 'acme.deb');
  },
  rpm: (): string => {
    const spec = [
      ...[
        'Name: acme',
        'Version: 1',
        'Release: 1',
        'Summary: acme',
        'License: none',
        'AutoReqProv: no',
        '%description',
        'acme',
        '%install',
      ],
      ...[
        `cp -a ${path.join(vendor, 'tree')}/. %{buildroot}/`,
        '%files',
        '/opt/acme',
        '%post',
        'touch /tmp/acme-was-run',
      ],
    ];
    writeFileSync(path.join(vendor, 'acme.spec'), `${spec.join('\n')}\n`);
    const defines = [`_topdir ${path.join(vendor, 'rpm')}`, '__os_install_post %{nil}', 'debug_package %{nil}'].flatMap(
      (one) => ['--define', one],
    );
    execFileSync('rpmbuild', ['-bb', ...defines, path.join(vendor, 'acme.spec')], { stdio: 'pipe' });
    return path.join(vendor, 'rpm/RPMS/x86_64/acme-1-1.x86_64.rpm');
  },
  'tar.xz': (): string => {
    execFileSync('tar', ['-cJf', path.join(vendor, 'acme.tar.xz'), '-C', path.join(vendor, 'tree'), '.']);
    return path.join(vendor, 'acme.tar.xz');
  },
};

const run = (...words: string[]): { status: number | null; stdout: string; stderr: string } =>
  spawnSync('scripts/add-hsm-client', words, { cwd: clone, encoding: 'utf8' });

for (const [kind, file] of Object.entries(make)) {
  test(`a package of a .${kind}`, () => {
    const name = `acme-${kind.replace('.', '-')}`;
    const { status, stdout, stderr } = run(name, file());
    assert.equal(status, 0, stderr);
    assert.match(stdout, new RegExp(`/var/vcap/packages/${name}/opt/acme/lib/libacme\\.so\n`));

    const packages = path.join(work, 'packages');
    compile(clone, name, packages);
    const at = (file: string): string => path.join(packages, name, 'opt/acme', file);
    assert.equal(readlinkSync(at('lib/libacme.so')), 'libacme.so.1');
    assert.ok(readFileSync(at('lib/libacme.so')).equals(readFileSync(softHsmModule())));
    assert.equal(lstatSync(at('tool')).mode & 0o7777, 0o755, 'no set-user-id bit');
    assert.equal(lstatSync(at('etc/acme.conf')).mode & 0o777, 0o644, 'vcap can read it');
    assert.ok(!existsSync('/tmp/acme-was-run'), 'no script of the package is run');

    const spec = parse(readFileSync(path.join(clone, 'jobs/kms-plugin/spec'), 'utf8')) as { packages: string[] };
    assert.equal(spec.packages.filter((one) => one === name).length, 1);
    const blobs = parse(readFileSync(path.join(clone, 'config/blobs.yml'), 'utf8')) as Record<
      string,
      { size: number; sha: string }
    >;
    assert.match(blobs[`${name}/${name}.tar.gz`]?.sha ?? '', /^sha256:[0-9a-f]{64}$/);
  });
}

test('made again it is the same, listed once, and create-release takes it as it is', () => {
  const before = readFileSync(path.join(clone, 'config/blobs.yml'), 'utf8');
  const job = readFileSync(path.join(clone, 'jobs/kms-plugin/spec'), 'utf8');
  assert.equal(run('acme-deb', path.join(vendor, 'acme.deb')).status, 0);
  assert.equal(readFileSync(path.join(clone, 'config/blobs.yml'), 'utf8'), before);
  assert.equal(readFileSync(path.join(clone, 'jobs/kms-plugin/spec'), 'utf8'), job);
  const script = '. scripts/lib/setup.sh; . scripts/lib/release.sh; mkdir -p "$dev"; blobs_listed';
  const listed = execFileSync('bash', ['-c', script, 'scripts/x'], { cwd: clone, encoding: 'utf8' });
  assert.match(listed, /^acme-deb\/acme-deb\.tar\.gz \d+ sha256:[0-9a-f]{64}$/m);
  const release = (version: string): string =>
    spawnSync('scripts/create-release', ['--version', version], {
      cwd: clone,
      encoding: 'utf8',
      env: { PATH: '/usr/bin:/bin' },
    }).stderr;
  assert.match(release('1.0.0'), /a version of its own: --version 1\.0\.0\+acme-deb\.1/);
  assert.doesNotMatch(release('1.0.0+acme-deb.1'), /a version of its own/);
});

test('what it cannot take, it refuses in one line', () => {
  writeFileSync(path.join(work, 'a.zip'), '');
  writeFileSync(path.join(work, 'broken.deb'), 'x');
  for (const [words, message] of [
    [['acme'], /wants a name and at least one file/],
    [['Acme!', 'x'], /is no name for a package/],
    [['hsm-kms-plugin-nodejs', 'x'], /is a package of this release already/],
    [['acme', '/none.deb'], /finds no file \/none\.deb/],
    [['acme', path.join(work, 'a.zip')], /does not know what .*a\.zip is/],
    [['acme', path.join(work, 'broken.deb')], /could not unpack/],
  ] as const) {
    const { status, stderr } = run(...words);
    assert.notEqual(status, 0);
    assert.match(stderr, message);
  }
});
