/** The complete manifests: what they deploy renders, and fits together. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { describe } from 'node:test';
import { parse } from 'yaml';
import { agree, interpolated, type Manifest, VARIABLES } from './agree.ts';
import { noBosh } from './bosh-cli.ts';
import { applyOperation, type Node, type Operation } from './patch.ts';
import { good, render, root } from './render.ts';

const NETWORK = {
  internal_ip: '10.0.0.10',
  internal_gw: '10.0.0.1',
  internal_cidr: '10.0.0.0/24',
  bpm_url: 'https://example.com/bpm.tgz',
  bpm_sha1: '0',
};
const read = (name: string): Node => parse(readFileSync(path.join(root, 'manifests', name), 'utf8')) as Node;
const partition = (kind: string, hsm: string, manifest: Node): Node => {
  const operations = parse(
    readFileSync(path.join(root, 'ops-files', kind, `partition-${hsm}.yml`), 'utf8'),
  ) as Operation[];
  for (const operation of operations) applyOperation(manifest, operation);
  return manifest;
};

test('credhub.yml: the only key is the plugin\u2019s, and CredHub and the plugin meet', () => {
  agree('credhub', interpolated(read('credhub.yml'), NETWORK), 'kms-plugin');
  for (const hsm of ['luna', 'cloudhsm', 'nshield', 'generic'])
    agree('credhub', interpolated(partition('credhub-release', hsm, read('credhub.yml')), NETWORK), 'kms-plugin');
});

test('create-env.yml renders without links, an address or an availability zone', () => {
  for (const manifest of [read('create-env.yml'), partition('bosh-deployment', 'luna', read('create-env.yml'))]) {
    const { instance_groups: groups } = interpolated(manifest, NETWORK);
    const jobs = groups[0]?.jobs ?? [];
    assert.deepEqual(
      jobs.map(({ name }) => name),
      ['bpm', 'kms-plugin'],
    );
    good(render({ properties: jobs[1]?.properties, mode: 'create-env' }));
    for (const job of jobs) assert.ok('properties' in job, 'create-env fails without');
  }
});

describe('bosh int', { skip: noBosh }, () => {
  for (const name of ['credhub.yml', 'create-env.yml']) {
    test(`makes all variables of ${name}`, () => {
      const directory = mkdtempSync(path.join(tmpdir(), 'kms-manifest-'));
      try {
        const given = Object.entries({
          ...NETWORK,
          hsm_kms_plugin_release: VARIABLES['hsm_kms_plugin_release'] as string,
        }).flatMap(([key, value]) => ['-v', `${key}=${value}`]);
        const made = execFileSync(
          'bosh',
          ['int', path.join(root, 'manifests', name), ...given, '--vars-store', 'store.yml', '--var-errs'],
          { cwd: directory, encoding: 'utf8', stdio: 'pipe' },
        );
        const manifest = parse(made) as Manifest;
        if (name === 'credhub.yml') agree('credhub', manifest, 'kms-plugin');
        else good(render({ properties: manifest.instance_groups[0]?.jobs[1]?.properties, mode: 'create-env' }));
      } finally {
        rmSync(directory, { recursive: true });
      }
    });
  }
});
