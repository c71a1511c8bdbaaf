/** scripts/create-release with the real bosh CLI, where it is on the PATH. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { describe } from 'node:test';
import { parse } from 'yaml';
import { noBosh } from './bosh-cli.ts';
import { root } from './render.ts';

const work = mkdtempSync(path.join(tmpdir(), 'kms-create-'));
test.after(() => rmSync(work, { recursive: true }));

interface ReleaseManifest {
  readonly name: string;
  readonly version: string;
  readonly jobs: readonly {
    readonly name: string;
    readonly fingerprint: string;
    readonly packages: readonly string[];
  }[];
  readonly packages: readonly {
    readonly name: string;
    readonly fingerprint: string;
    readonly dependencies: readonly string[];
  }[];
}

describe('scripts/create-release', { skip: noBosh }, () => {
  const make = (name: string): ReleaseManifest => {
    const tarball = path.join(work, name);
    execFileSync(path.join(root, 'scripts/create-release'), ['--version', '0.0.1', '--tarball', tarball], {
      stdio: 'pipe',
    });
    return parse(execFileSync('tar', ['-xzOf', tarball, 'release.MF'], { encoding: 'utf8' })) as ReleaseManifest;
  };

  test('makes a release with its jobs and packages, twice with the same fingerprints', () => {
    const first = make('first.tgz');
    assert.deepEqual([first.name, first.version], ['hsm-kms-plugin', '0.0.1']);
    assert.deepEqual(first.jobs.map(({ name, packages }) => [name, [...packages].sort()]).sort(), [
      ['kms-plugin', ['kms-plugin', 'nodejs', 'softhsm2']],
      ['kms-plugin-smoke-tests', []],
    ]);
    assert.deepEqual(first.packages.map(({ name, dependencies }) => [name, dependencies]).sort(), [
      ['kms-plugin', ['nodejs']],
      ['nodejs', []],
      ['softhsm2', []],
    ]);
    const second = make('second.tgz');
    const prints = ({ jobs, packages }: ReleaseManifest): string[] =>
      [...jobs, ...packages].map(({ name, fingerprint }) => `${name} ${fingerprint}`);
    assert.deepEqual(prints(second), prints(first));
  });
});

test('scripts/create-release without the bosh CLI says where to get it, also where Debian\u2019s program bosh is', () => {
  const bin = path.join(work, 'bin');
  mkdirSync(bin);
  for (const tool of ['bash', 'dirname', 'basename', 'grep', 'git', 'sed'])
    symlinkSync(execFileSync('which', [tool], { encoding: 'utf8' }).trim(), path.join(bin, tool));
  const attempt = (): string => {
    const { status, stderr } = spawnSync('bash', [path.join(root, 'scripts/create-release')], {
      encoding: 'utf8',
      env: { PATH: bin },
    });
    assert.notEqual(status, 0);
    return stderr;
  };
  assert.match(
    attempt(),
    /needs the bosh CLI, version 7 or newer, and finds none on the PATH: https:\/\/bosh\.io\/docs\/cli-v2-install\//,
  );
  symlinkSync('/bin/true', path.join(bin, 'bosh'));
  assert.match(attempt(), /needs the bosh CLI/);
});

test('scripts/create-release refuses what makes no sense before it does anything', () => {
  for (const [words, message] of [
    [['--final'], /wants --version with --final/],
    [['--version', 'one'], /one is no semantic version/],
    [['--frobnicate'], /does not know --frobnicate/],
    [['--version'], /--version wants a value/],
  ] as const) {
    const { status, stderr } = spawnSync(path.join(root, 'scripts/create-release'), words, { encoding: 'utf8' });
    assert.notEqual(status, 0);
    assert.match(stderr, message);
  }
});
