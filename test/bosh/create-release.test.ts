/** scripts/create-release with the real bosh CLI, where it is on the PATH. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { appendFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
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
  readonly license?: unknown;
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
      ['kms-plugin', ['hsm-kms-plugin', 'hsm-kms-plugin-nodejs']],
      ['kms-plugin-smoke-tests', []],
    ]);
    assert.deepEqual(first.packages.map(({ name, dependencies }) => [name, dependencies]).sort(), [
      ['hsm-kms-plugin', ['hsm-kms-plugin-nodejs']],
      ['hsm-kms-plugin-nodejs', []],
    ]);
    assert.ok(first.license !== undefined, 'the licence is in it');
    const second = make('second.tgz');
    const prints = ({ jobs, packages }: ReleaseManifest): string[] =>
      [...jobs, ...packages].map(({ name, fingerprint }) => `${name} ${fingerprint}`);
    assert.deepEqual(prints(second), prints(first));
  });

  test('with SoftHSM2 it has one package more', () => {
    const tarball = path.join(work, 'trial.tgz');
    const words = ['--version', '0.0.1-trial', '--trial', '--tarball', tarball];
    execFileSync(path.join(root, 'scripts/create-release'), words, { stdio: 'pipe' });
    const { packages } = parse(
      execFileSync('tar', ['-xzOf', tarball, 'release.MF'], { encoding: 'utf8' }),
    ) as ReleaseManifest;
    assert.deepEqual(packages.map(({ name }) => name).sort(), [
      'hsm-kms-plugin',
      'hsm-kms-plugin-nodejs',
      'hsm-kms-plugin-softhsm2',
    ]);
  });

  test('a committed release is made again from its commit, and another one under its version is refused', () => {
    const clone = path.join(work, 'clone');
    execFileSync('git', ['clone', '-q', root, clone]);
    // What is not committed yet is tried, too.
    for (const part of ['scripts', 'jobs', 'packages', 'config']) {
      rmSync(path.join(clone, part), { recursive: true });
      cpSync(path.join(root, part), path.join(clone, part), { recursive: true });
    }
    cpSync(path.join(root, 'node_modules'), path.join(clone, 'node_modules'), {
      recursive: true,
      verbatimSymlinks: true,
    });
    const git = (...words: string[]): string =>
      execFileSync('git', ['-c', 'user.name=t', '-c', 'user.email=t@example.com', ...words], {
        cwd: clone,
        encoding: 'utf8',
      });
    const create = (...words: string[]): { status: number | null; stdout: string; stderr: string } =>
      spawnSync('scripts/create-release', ['--version', '0.9.0', ...words], { cwd: clone, encoding: 'utf8' });
    git('add', '-A');
    git('commit', '-qm', 'all', '--allow-empty');
    const final = create('--final');
    assert.equal(final.status, 0, final.stderr);
    git('add', 'releases');
    git('commit', '-qm', 'released');
    // Elsewhere: nothing of the first making is there.
    for (const made of ['.release', 'hsm-kms-plugin-0.9.0.tgz']) rmSync(path.join(clone, made), { recursive: true });
    const again = create();
    assert.equal(again.status, 0, again.stderr);
    assert.match(again.stdout, /It has the very packages and jobs that release 0\.9\.0 had\./);
    appendFileSync(path.join(clone, 'jobs/kms-plugin/monit'), '# another\n');
    const other = create();
    assert.notEqual(other.status, 0);
    assert.match(other.stderr, /made another release than 0\.9\.0 was/);
  });

  test('a plain bosh create-release names what to run', () => {
    const clone = path.join(work, 'plain');
    mkdirSync(clone);
    for (const part of ['jobs', 'packages', 'config', 'src'])
      cpSync(path.join(root, part), path.join(clone, part), { recursive: true });
    execFileSync('git', ['init', '-q'], { cwd: clone });
    const { status, stdout, stderr } = spawnSync('bosh', ['--non-interactive', 'create-release', '--force'], {
      cwd: clone,
      encoding: 'utf8',
    });
    assert.notEqual(status, 0);
    assert.match(stdout + stderr, /Missing files for pattern 'make-this-release-with-scripts-create-release/);
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
    [['--trial', '--final', '--version', '1.0.0'], /makes no final release with SoftHSM2/],
    [['--trial', '--version', '1.0.0'], /a version of its own, .*: --version 1\.0\.0-trial/],
    [['--softhsm2', '/none.deb'], /finds no file \/none\.deb/],
  ] as const) {
    const { status, stderr } = spawnSync(path.join(root, 'scripts/create-release'), words, { encoding: 'utf8' });
    assert.notEqual(status, 0);
    assert.match(stderr, message);
  }
});
