/** Holds a manifest's plugin and the provider that its CredHub would get to each other. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parse } from 'yaml';
import { makeCertificate, type Certificate } from './certificates.ts';
import type { Node } from './patch.ts';
import { otherTls, tls } from './properties.ts';
import { good, render } from './render.ts';

/** Values of the variables that operators give. */
export const VARIABLES: Readonly<Record<string, Node>> = {
  hsm_kms_plugin_release: '/tmp/hsm-kms-plugin.tgz',
  kms_plugin_next_key: 'credhub-2',
  credhub_instances: 2,
  hsm_partition: 'partition',
  hsm_partition_password: 'password',
  hsm_client_certificate: tls.certificate,
  hsm_client_key: tls.private_key,
  hsm_servers: [{ host: '10.0.1.1', port: 1792, partition_serial_number: 123123, certificate: tls.ca }],
  cloudhsm_user: 'credhub',
  cloudhsm_password: 'password',
  cloudhsm_ca: otherTls.ca,
  cloudhsm_servers: [{ host: '10.0.1.1' }],
  cloudhsm_module: '/opt/cloudhsm/lib/libcloudhsm_pkcs11.so',
  nshield_partition: 'softcard',
  nshield_pin: 'passphrase',
  pkcs11_module: '/opt/acme/libacme.so',
  pkcs11_partition: 'credhub',
  pkcs11_pin: 'secret',
};

export interface VariableSpec {
  readonly name: string;
  readonly type: string;
  readonly update_mode?: string;
  readonly options?: { readonly is_ca?: boolean; readonly ca?: string; readonly alternative_names?: string[] };
}
export interface Key {
  readonly provider_name: string;
  readonly active?: boolean;
  readonly key_properties: Readonly<Record<string, string>>;
}
export interface Job {
  readonly name: string;
  readonly release: string;
  readonly properties: Readonly<Record<string, unknown>>;
}
export interface Group {
  readonly name: string;
  readonly instances: number;
  readonly persistent_disk?: number;
  readonly update?: unknown;
  readonly jobs: Job[];
}
export interface Manifest {
  readonly releases: Readonly<Record<string, string>>[];
  readonly instance_groups: Group[];
  readonly variables?: VariableSpec[];
}
export interface Provider {
  readonly name: string;
  readonly type: string;
  readonly connection_properties?: { readonly endpoint: string; readonly host: string; readonly ca: string };
}

/** The manifest with its variables: given ones, and made ones as a config server makes them. */
export function interpolated(manifest: Node, given: Readonly<Record<string, Node>> = {}): Manifest {
  const values = new Map<string, Node>(Object.entries({ ...VARIABLES, ...given }));
  for (const variable of (manifest as unknown as Manifest).variables ?? []) {
    if (variable.type === 'password') values.set(variable.name, 'p4ssword-of-twenty-characters');
    else if (variable.type !== 'certificate') values.set(variable.name, { private_key: 'made' });
    else {
      const made: Certificate = makeCertificate(variable.options?.alternative_names ?? []);
      values.set(variable.name, { ...made });
    }
  }
  const look = (name: string): Node => {
    const [first = '', field] = name.split('.');
    const value = values.get(first);
    assert.ok(value !== undefined, `((${name})) has no value`);
    return field === undefined ? value : ((value as Record<string, Node>)[field] ?? assert.fail(name));
  };
  const walk = (node: Node): Node => {
    if (typeof node === 'string') {
      const whole = /^\(\(([^()]+)\)\)$/.exec(node)?.[1];
      return whole === undefined
        ? node.replace(/\(\(([^()]+)\)\)/g, (_all, name: string) =>
            JSON.stringify(look(name)).replace(/^"(.*)"$/, '$1'),
          )
        : look(whole);
    }
    if (Array.isArray(node)) return node.map(walk);
    if (node === null || typeof node !== 'object') return node;
    return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, walk(value)]));
  };
  return walk(manifest) as unknown as Manifest;
}

export function parts(groupName: string, manifest: Manifest) {
  const group = manifest.instance_groups.find(({ name }) => name === groupName) ?? assert.fail('no instance group');
  const job = (name: string): Job => group.jobs.find((one) => one.name === name) ?? assert.fail(`no job ${name}`);
  const { encryption } = job('credhub').properties['credhub'] as { encryption: { keys: Key[]; providers: Provider[] } };
  return { group, job, encryption };
}

/** What CredHub's job demands of its encryption, and what makes it meet this plugin. */
export function agree(groupName: string, manifest: Manifest, active: string): void {
  const { group, job, encryption } = parts(groupName, manifest);
  const { keys, providers } = encryption;
  assert.deepEqual(
    keys.filter((key) => key.active === true).map((key) => key.provider_name),
    [active],
  );
  for (const { provider_name: name } of keys)
    assert.equal(providers.filter((provider) => provider.name === name).length, 1, name);
  const [provider, ...more] = providers.filter(({ type }) => type === 'kms-plugin');
  assert.deepEqual(more, []);
  const connection = provider?.connection_properties ?? assert.fail('no provider of type kms-plugin');
  assert.ok(
    (keys.find((key) => key.provider_name === 'kms-plugin')?.key_properties['encryption_key_name'] ?? '') !== '',
  );

  const plugin = job('kms-plugin');
  const names = group.jobs.map(({ name }) => name);
  assert.ok(names.indexOf('kms-plugin') < names.indexOf('credhub'), 'monit starts the plugin first');
  assert.equal(names.filter((name) => name === 'kms-plugin').length, 1);
  assert.ok(manifest.releases.some(({ name }) => name === plugin.release));
  for (const mode of ['director', 'create-env'] as const) {
    const rendered = good(render({ properties: plugin.properties, mode }));
    const config = parse(rendered['config/kms-plugin.yml'] ?? '') as {
      listeners: [{ endpoint: string; tls: { host: string } }];
    };
    assert.equal(connection.endpoint, config.listeners[0].endpoint);
    assert.ok(connection.endpoint.startsWith('/'), 'CredHub takes the endpoint as a plain path');
    assert.equal(connection.host, config.listeners[0].tls.host);
    assert.ok(!(rendered['config/bpm.yml'] ?? '').includes('mount_only'));

    const directory = mkdtempSync(path.join(tmpdir(), 'kms-agree-'));
    try {
      writeFileSync(path.join(directory, 'ca'), connection.ca);
      writeFileSync(path.join(directory, 'server'), rendered['config/server.crt'] ?? '');
      // What CredHub's TLS checks: the chain to the provider's CA, and the provider's host among the names.
      execFileSync('openssl', ['verify', '-CAfile', 'ca', '-verify_hostname', connection.host, 'server'], {
        cwd: directory,
        stdio: 'pipe',
      });
    } finally {
      rmSync(directory, { recursive: true });
    }
  }
}
