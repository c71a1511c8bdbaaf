/** The ops files: applied to manifests of the real ones' shape, then plugin and CredHub's provider held to each other. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { describe } from 'node:test';
import { parse, stringify } from 'yaml';
import { noBosh } from './bosh-cli.ts';
import { agree, interpolated, parts, VARIABLES, type Manifest } from './agree.ts';
import { applyOperation, type Node, type Operation } from './patch.ts';
import { refused, render, root } from './render.ts';

const KINDS = ['cf-deployment', 'bosh-deployment', 'credhub-release'] as const;
type Kind = (typeof KINDS)[number];
const HSMS = ['softhsm2', 'luna', 'cloudhsm', 'nshield', 'generic'] as const;
const GROUP = { 'cf-deployment': 'credhub', 'bosh-deployment': 'bosh', 'credhub-release': 'credhub' } as const;
const INTERNAL = {
  'cf-deployment': 'internal-provider',
  'bosh-deployment': 'internal',
  'credhub-release': 'int',
} as const;

const shape = (name: string): Node =>
  parse(readFileSync(path.join(import.meta.dirname, `manifests/${name}.yml`), 'utf8')) as Node;
const opsFile = (kind: Kind, name: string): string => path.join(root, 'ops-files', kind, `${name}.yml`);

function applied(kind: Kind, names: readonly string[], base: string = kind): Node {
  const manifest = shape(base);
  for (const name of names) {
    for (const operation of parse(readFileSync(opsFile(kind, name), 'utf8')) as Operation[])
      applyOperation(manifest, operation);
  }
  return manifest;
}

const keysOf = (kind: Kind, manifest: Manifest): unknown =>
  (parts(GROUP[kind], manifest).job('kms-plugin').properties['kms-plugin'] as { keys: unknown }).keys;

for (const kind of KINDS) {
  describe(kind, () => {
    for (const hsm of HSMS) {
      test(`enable and partition-${hsm}`, () => {
        const manifest = applied(kind, ['enable', `partition-${hsm}`]);
        agree(GROUP[kind], interpolated(manifest), 'kms-plugin');
        assert.deepEqual(applied(kind, [`enable-${hsm}`]), manifest, 'both in one file are the same');
      });
    }

    test('the internal key is kept, and not active', () => {
      const { encryption } = parts(GROUP[kind], interpolated(applied(kind, ['enable-luna'])));
      assert.deepEqual(
        encryption.keys.map(({ provider_name: name, active }) => [name, active]),
        [
          [INTERNAL[kind], false],
          ['kms-plugin', true],
        ],
      );
      assert.ok((encryption.keys[0]?.key_properties['encryption_password'] ?? '') !== '');
    });

    test('enable alone is refused while templates render, with what is missing', () => {
      const { job } = parts(GROUP[kind], interpolated(applied(kind, ['enable'])));
      assert.match(
        refused(render({ properties: job('kms-plugin').properties })),
        /kms-plugin\.hsm is missing: .*partition-\*\.yml/,
      );
    });

    test('back-out: the internal key is active, the plugin and its key are kept', () => {
      agree(GROUP[kind], interpolated(applied(kind, ['enable-luna', 'back-out'])), INTERNAL[kind]);
    });

    test('internal-only after back-out is the manifest as it was', () => {
      assert.deepEqual(applied(kind, ['enable-luna', 'back-out', 'internal-only']), shape(kind));
    });

    test('internal-only without back-out leaves no active key, which CredHub refuses', () => {
      const { encryption } = parts(GROUP[kind], interpolated(applied(kind, ['enable-luna', 'internal-only'])));
      assert.deepEqual(
        encryption.keys.filter(({ active }) => active),
        [],
      );
    });

    test('kms-only: the internal key is gone, its variable is not', () => {
      const manifest = applied(kind, ['enable-luna', 'kms-only']);
      agree(GROUP[kind], interpolated(manifest), 'kms-plugin');
      const { encryption } = parts(GROUP[kind], interpolated(manifest));
      assert.deepEqual([encryption.keys.length, encryption.providers.length], [1, 1]);
      assert.deepEqual(
        (manifest as unknown as Manifest).variables?.[0],
        (shape(kind) as unknown as Manifest).variables?.[0],
      );
    });

    test('stage and activate: decrypt first, then active, and never a key made by itself', () => {
      const staged = interpolated(applied(kind, ['enable-luna', 'stage-hsm-key']));
      agree(GROUP[kind], staged, 'kms-plugin');
      assert.deepEqual(keysOf(kind, staged), [
        { label: 'credhub-1', state: 'active', create: false },
        { label: 'credhub-2', state: 'decrypt' },
      ]);
      const activated = interpolated(applied(kind, ['enable-luna', 'stage-hsm-key', 'activate-hsm-key']));
      agree(GROUP[kind], activated, 'kms-plugin');
      assert.deepEqual(keysOf(kind, activated), [
        { label: 'credhub-1', state: 'decrypt', create: false },
        { label: 'credhub-2', state: 'active' },
      ]);
    });

    test('internal-only-softhsm2 after the trial is the manifest as it was', () => {
      const back = applied(kind, ['enable-softhsm2', 'back-out', 'internal-only-softhsm2']);
      const before = shape(kind);
      const { instances } = parts(GROUP[kind], before as unknown as Manifest).group;
      assert.deepEqual(JSON.parse(JSON.stringify(back).replace('"((credhub_instances))"', String(instances))), before);
    });

    test('certificates are made again when what they are for has changed', () => {
      const { variables = [] } = applied(kind, ['enable-luna']) as unknown as Manifest;
      const certificates = variables.filter(({ name }) => name.startsWith('kms_plugin_'));
      assert.deepEqual(
        certificates.map(({ name, update_mode: mode }) => [name, mode]),
        [
          ['kms_plugin_ca', 'converge'],
          ['kms_plugin_tls', 'converge'],
        ],
      );
    });

    test('the SoftHSM2 trial: one instance with a persistent disk', () => {
      const { group } = parts(GROUP[kind], interpolated(applied(kind, ['enable-softhsm2'])));
      assert.equal(group.instances, 1);
      assert.equal(group.persistent_disk, kind === 'bosh-deployment' ? undefined : 1024);
    });

    test('files that come after enable say where they find nothing', () => {
      for (const name of [
        ...HSMS.map((hsm) => `partition-${hsm}`),
        'back-out',
        'internal-only',
        'internal-only-softhsm2',
        'stage-hsm-key',
        'activate-hsm-key',
      ]) {
        assert.throws(() => applied(kind, [name]), /no entry with (name|provider_name)=kms-plugin/, name);
      }
    });

    test('create: true stands in enable and in the SoftHSM2 trial only', () => {
      const directory = path.join(root, 'ops-files', kind);
      const holding = readdirSync(directory).filter((name) => {
        const operations = parse(readFileSync(path.join(directory, name), 'utf8')) as Operation[];
        return operations.some(
          ({ path: at, value }) =>
            (at.endsWith('/create?') && value === true) || JSON.stringify(value ?? null).includes('"create":true'),
        );
      });
      assert.deepEqual(
        holding.sort(),
        ['enable.yml', ...HSMS.map((hsm) => `enable-${hsm}.yml`), 'partition-softhsm2.yml'].sort(),
      );
      for (const name of holding) {
        if (name.startsWith('enable'))
          assert.match(
            readFileSync(path.join(directory, name), 'utf8'),
            /# For the first deployment only: afterwards remove this line/,
          );
      }
    });

    test('every header says for what, when, how, whether it worked and how to go back', () => {
      const directory = path.join(root, 'ops-files', kind);
      for (const name of readdirSync(directory)) {
        const header = readFileSync(path.join(directory, name), 'utf8').split('\n\n')[0] ?? '';
        for (const part of ['# For ', '# Before: ', '# Deploy: ', '# It worked: ', '# Go back: '])
          assert.ok(header.includes(part), `${name}: ${part}`);
      }
      assert.match(
        readFileSync(opsFile(kind, 'enable'), 'utf8'),
        /Finished encryption key rotation in N milliseconds[^]*SELECT count\(\*\) FROM encrypted_value/,
      );
      assert.match(readFileSync(opsFile(kind, 'stage-hsm-key'), 'utf8'), /kms-plugin keys create/);
    });

    test('two files put one after the other are one ops file', () => {
      const both = ['enable', 'partition-luna'].map((name) => readFileSync(opsFile(kind, name), 'utf8')).join('');
      const manifest = shape(kind);
      for (const operation of parse(both) as Operation[]) applyOperation(manifest, operation);
      assert.deepEqual(manifest, applied(kind, ['enable-luna']));
    });
  });
}

test('the documentation\u2019s example, which has no variables and no active', () => {
  agree('credhub', interpolated(applied('credhub-release', ['enable-luna'], 'documentation')), 'kms-plugin');
  agree('credhub', interpolated(applied('credhub-release', ['enable-luna', 'back-out'], 'documentation')), 'int');
});

test('the errand\u2019s name is free in cf-deployment, whose instance group smoke-tests must stay what bosh run-errand smoke-tests means', () => {
  const manifest = interpolated(applied('cf-deployment', ['enable-luna']));
  const jobs = manifest.instance_groups.flatMap((group) => group.jobs.map(({ name }) => name));
  for (const { name } of manifest.instance_groups)
    assert.ok(
      !parts('credhub', manifest)
        .group.jobs.slice(1)
        .some((job) => job.name === name && name !== 'credhub'),
      name,
    );
  assert.ok(jobs.includes('kms-plugin-smoke-tests'));
});

test('ops-files/ is what scripts/generate-ops-files.mjs writes', () => {
  execFileSync(process.execPath, [path.join(root, 'scripts/generate-ops-files.mjs'), '--check'], { stdio: 'pipe' });
});

describe('bosh int', { skip: noBosh }, () => {
  const sequences = [
    ...HSMS.map((hsm) => ['enable', `partition-${hsm}`]),
    ...HSMS.map((hsm) => [`enable-${hsm}`]),
    ['enable-luna', 'back-out'],
    ['enable-luna', 'back-out', 'internal-only'],
    ['enable-softhsm2', 'back-out', 'internal-only-softhsm2'],
    ['enable-luna', 'kms-only'],
    ['enable-luna', 'stage-hsm-key', 'activate-hsm-key'],
  ];
  for (const kind of KINDS) {
    test(`makes of ${kind} and the ops files what this test made of them`, () => {
      for (const names of sequences) {
        const options = names.flatMap((name) => ['-o', opsFile(kind, name)]);
        const made = execFileSync(
          'bosh',
          ['int', path.join(import.meta.dirname, `manifests/${kind}.yml`), ...options],
          { encoding: 'utf8', stdio: 'pipe' },
        );
        assert.deepEqual(parse(made), applied(kind, names), names.join(', '));
      }
    });
  }

  test('makes the variables itself: certificates with the host among their names', () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'kms-int-'));
    try {
      for (const kind of KINDS) {
        writeFileSync(path.join(directory, 'given.yml'), stringify(VARIABLES));
        const made = execFileSync(
          'bosh',
          [
            'int',
            path.join(import.meta.dirname, `manifests/${kind}.yml`),
            '-o',
            opsFile(kind, 'enable-luna'),
            '-l',
            'given.yml',
            '--vars-store',
            `${kind}-store.yml`,
            '--var-errs',
          ],
          { cwd: directory, encoding: 'utf8', stdio: 'pipe' },
        );
        agree(GROUP[kind], parse(made) as Manifest, 'kms-plugin');
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
