/** scripts/check-manifest: what a deployment would refuse, without one. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { describe } from 'node:test';
import { stringify } from 'yaml';
import { VARIABLES } from './agree.ts';
import { noBosh } from './bosh-cli.ts';
import { root } from './render.ts';

const work = mkdtempSync(path.join(tmpdir(), 'kms-check-'));
test.after(() => rmSync(work, { recursive: true }));

const check = (...words: string[]): { status: number | null; stdout: string; stderr: string } =>
  spawnSync(path.join(root, 'scripts/check-manifest'), words, { cwd: work, encoding: 'utf8' });
const written = (name: string, content: unknown): string => {
  writeFileSync(path.join(work, name), stringify(content));
  return name;
};
const CREATE_ENV = [
  path.join(root, 'manifests/create-env.yml'),
  ...['--state', 'state.json', '--recreate'],
  ...['hsm_kms_plugin_release=/x', 'bpm_url=x', 'internal_ip=10.0.0.10', 'internal_gw=10.0.0.1'].flatMap((one) => [
    '-v',
    one,
  ]),
];
const change = (name: string, value: unknown): unknown[] => [
  { type: 'replace', path: `/instance_groups/name=bosh/jobs/name=kms-plugin/properties/kms-plugin/${name}`, value },
];

describe('scripts/check-manifest', { skip: noBosh }, () => {
  test('takes the arguments of create-env, makes up what create-env would make, and writes nothing', () => {
    const { status, stdout, stderr } = check(...CREATE_ENV, '--vars-store', 'credentials.yml');
    assert.equal(status, 0, stderr);
    assert.match(stdout, /The properties of 1 job\(s\) of hsm-kms-plugin can work\./);
    assert.ok(!existsSync(path.join(work, 'credentials.yml')));
  });

  test('names every fault by its property, and uses the certificate that is in the vars store', () => {
    const store = written('store.yml', { kms_plugin_tls: { certificate: 'x', private_key: 'y', ca: 'z' } });
    const before = readFileSync(path.join(work, store), 'utf8');
    const { status, stderr } = check(
      ...CREATE_ENV,
      `--vars-store=${store}`,
      ...['-o', written('state.yml', change('keys/0/state', 'x'))],
      ...['-o', written('patience.yml', change('patience?', 'long'))],
    );
    assert.equal(status, 1);
    for (const fault of [
      /instance group bosh: .*kms-plugin\.tls\.certificate holds no PEM certificate/,
      /kms-plugin\.keys\[0\]\.state is "x"/,
      /kms-plugin\.patience is "long"/,
    ])
      assert.match(stderr, fault);
    assert.equal(readFileSync(path.join(work, store), 'utf8'), before);
  });

  const shape = path.join(root, 'test/bosh/manifests/cf-deployment.yml');
  const luna = path.join(root, 'ops-files/cf-deployment/enable-luna.yml');

  test('takes the arguments of bosh deploy, and makes up what the Director would make', () => {
    const variables = written('variables.yml', VARIABLES);
    const { status, stdout, stderr } = check('-d', 'cf', shape, '-o', luna, '-l', variables, '--no-redact', '-n');
    assert.equal(status, 0, stderr);
    assert.match(stdout, /2 job\(s\) of hsm-kms-plugin can work/);
    assert.match(check(shape, '-o', luna).stderr, /hsm_partition[^]*lacks values of variables/);
  });

  test('looks at every instance, and not only at the first', () => {
    const trial = path.join(root, 'ops-files/cf-deployment/enable-softhsm2.yml');
    const two = written('two.yml', [{ type: 'replace', path: '/instance_groups/name=credhub/instances', value: 2 }]);
    assert.equal(check(shape, '-o', trial).status, 0);
    assert.match(check(shape, '-o', trial, '-o', two).stderr, /kms-plugin\.hsm is softhsm2, a trial for one instance/);
  });

  test('says when there is nothing of this release in the manifest', () => {
    assert.match(check(shape).stderr, /finds no job of the release hsm-kms-plugin in the manifest/);
    assert.match(check('none.yml').stderr, /cannot read none\.yml with these options/);
  });
});

test('every recipe with create-env checks the manifest first', () => {
  for (const file of ['docs/deploy.md', 'manifests/create-env.yml', 'ops-files/bosh-deployment/enable-luna.yml']) {
    const text = readFileSync(path.join(root, file), 'utf8');
    const at = text.search(/^[# ]*(Deploy: *)?bosh create-env /m);
    assert.ok(at > 0 && text.slice(0, at).includes('scripts/check-manifest'), file);
  }
});
