/** Compiles the release's packages as a compilation VM does: its own files only, a stemcell's tools, no network. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parse } from 'yaml';

/** What Ubuntu stemcells have; in particular no python, no node, no npm. */
const TOOLS =
  'bash sh cat cp mv rm mkdir mktemp ln ls chmod chown touch find sort head tail tr cut wc grep sed awk xargs env dirname basename ' +
  'tar gzip xz ar dpkg-deb ldd g++ gcc cc ld as make install sha256sum id true false test';

interface PackageSpec {
  readonly dependencies?: readonly string[];
  readonly files: readonly string[];
}

/** Files that a package's patterns name, each relative to the first of src and blobs that has it. */
export function packageFiles(release: string, name: string): Map<string, string> {
  const spec = parse(readFileSync(path.join(release, 'packages', name, 'spec'), 'utf8')) as PackageSpec;
  const found = new Map<string, string>();
  for (const pattern of spec.files) {
    for (const base of ['src', 'blobs']) {
      const cwd = path.join(release, base);
      if (!existsSync(cwd)) continue;
      for (const match of globSync(pattern, { cwd })) {
        if (statSync(path.join(cwd, match)).isFile() && !found.has(match)) found.set(match, path.join(cwd, match));
      }
    }
    assert.ok(
      [...found.keys()].some((file) => path.matchesGlob(file, pattern)),
      `${name}: no file for ${pattern}`,
    );
  }
  return found;
}

/** Compiles one package into `packages`/NAME, where those that it depends on are already. */
export function compile(release: string, name: string, packages: string): string {
  const work = mkdtempSync(path.join(tmpdir(), `kms-compile-`));
  try {
    for (const [file, from] of packageFiles(release, name)) {
      mkdirSync(path.dirname(path.join(work, 'source', file)), { recursive: true });
      cpSync(from, path.join(work, 'source', file));
    }
    cpSync(path.join(release, 'packages', name, 'packaging'), path.join(work, 'source/packaging'));
    mkdirSync(path.join(work, 'bin'));
    for (const tool of TOOLS.split(' ')) {
      const found = ['/usr/bin', '/bin', '/usr/sbin'].map((at) => path.join(at, tool)).find((at) => existsSync(at));
      assert.ok(found !== undefined, `a stemcell has ${tool}, and this machine does not`);
      symlinkSync(found, path.join(work, 'bin', tool));
    }
    const target = path.join(packages, name);
    mkdirSync(target, { recursive: true });
    const at = `/var/vcap/packages/${name}`;
    const { dependencies = [] } = parse(
      readFileSync(path.join(release, 'packages', name, 'spec'), 'utf8'),
    ) as PackageSpec;
    const result = spawnSync(
      'bwrap',
      [
        ...['--ro-bind', '/usr', '/usr', '--dir', '/etc', '--proc', '/proc', '--dev', '/dev', '--tmpfs', '/tmp'],
        ...['bin', 'lib', 'lib64', 'sbin'].flatMap((link) => ['--symlink', `usr/${link}`, `/${link}`]),
        ...['/etc/alternatives', '/etc/ld.so.cache'].flatMap((file) => ['--ro-bind-try', file, file]),
        ...['--ro-bind', path.join(work, 'bin'), '/stemcell/bin'],
        ...['--bind', path.join(work, 'source'), `/var/vcap/data/compile/${name}`],
        ...dependencies.flatMap((one) => ['--ro-bind', path.join(packages, one), `/var/vcap/packages/${one}`]),
        ...[
          '--bind',
          target,
          at,
          '--unshare-all',
          '--die-with-parent',
          '--clearenv',
          '--setenv',
          'PATH',
          '/stemcell/bin',
        ],
        ...['--setenv', 'BOSH_COMPILE_TARGET', `/var/vcap/data/compile/${name}`, '--setenv', 'BOSH_INSTALL_TARGET', at],
        ...['--setenv', 'BOSH_PACKAGE_NAME', name, '--setenv', 'BOSH_PACKAGE_VERSION', '1'],
        ...['--chdir', `/var/vcap/data/compile/${name}`, 'bash', '-x', 'packaging'],
      ],
      { encoding: 'utf8', maxBuffer: 64 * 1024 ** 2 },
    );
    assert.equal(result.status, 0, `packaging of ${name}:\n${result.stderr.slice(-4000)}`);
    return result.stdout;
  } finally {
    rmSync(work, { recursive: true });
  }
}
