/** The files under manifests/kubernetes fit each other, the image, and the configuration's own defaults. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { version } from './support/image.ts';
import { configuration, encryptionDirectory, pod } from './support/manifests.ts';

const { spec, metadata, kind } = pod();
const [container] = spec.containers;
const config = configuration();

const mountOf = (place: string) => {
  const mount = container.volumeMounts.find(
    ({ mountPath }) => place === mountPath || place.startsWith(`${mountPath}/`),
  );
  assert.ok(mount, `${place} is in no volume`);
  const volume = spec.volumes.find(({ name }) => name === mount.name);
  assert.ok(volume, `the pod has no volume ${mount.name}`);
  return { mount, volume };
};
const socket = String(config.listeners[0]?.['endpoint']).replace('unix://', '');

describe('the static pod', () => {
  it('starts before there is a pod network, and is not evicted', () => {
    assert.deepEqual([kind, metadata.namespace], ['Pod', 'kube-system']);
    assert.equal(spec.hostNetwork, true);
    assert.equal(spec.priorityClassName, 'system-node-critical');
  });

  it('is not root and may write nothing but its two directories', () => {
    assert.equal(spec.securityContext.runAsNonRoot, true);
    assert.ok(spec.securityContext.runAsUser > 0 && spec.securityContext.runAsGroup > 0);
    assert.equal(spec.securityContext.seccompProfile.type, 'RuntimeDefault');
    assert.equal(container.securityContext.readOnlyRootFilesystem, true);
    assert.equal(container.securityContext.allowPrivilegeEscalation, false);
    assert.deepEqual(container.securityContext.capabilities, { drop: ['ALL'] });
    const writable = container.volumeMounts
      .filter(({ readOnly }) => readOnly !== true)
      .map(({ mountPath }) => mountPath);
    assert.deepEqual(writable.toSorted(), [path.dirname(socket), String(config.state_dir)].toSorted());
  });

  it('has each place that the configuration names, under the name that kube-apiserver knows', () => {
    for (const place of [config.state_dir, socket, config.token['module'], '/etc/kms-plugin/kms-plugin.yml']) {
      const { mount, volume } = mountOf(String(place));
      assert.equal(volume.hostPath.path, mount.mountPath);
      // The kubelet would make a missing one for root alone, and the plugin could not write there.
      assert.equal(volume.hostPath.type, 'Directory');
    }
  });

  it('is probed where the plugin serves health', () => {
    for (const [probe, name] of [
      [container.livenessProbe, 'liveness'],
      [container.readinessProbe, 'readiness'],
    ] as const) {
      const { address, port } = config['health'] as { address: string; port: number };
      assert.deepEqual(probe.httpGet, { host: address, port, path: `/healthz/${name}` });
    }
  });

  it('has time to end', () => {
    // limits.shutdown is 10 s unless the configuration says otherwise.
    assert.equal((config['limits'] as Record<string, unknown>)['shutdown'], undefined);
    assert.ok(spec.terminationGracePeriodSeconds > 10);
  });

  it('names the image as scripts/create-image does', () => {
    assert.equal(container.image, `localhost/hsm-kms-plugin:${version}`);
  });
});

interface Provider {
  readonly kms?: { readonly apiVersion: string; readonly endpoint: string };
  readonly identity?: object;
}

describe('the encryption configurations', () => {
  for (const name of readdirSync(encryptionDirectory)) {
    it(`${name} reaches the plugin's socket`, () => {
      const { resources } = parse(readFileSync(path.join(encryptionDirectory, name), 'utf8')) as {
        resources: readonly [{ providers: readonly Provider[] }];
      };
      const { providers } = resources[0];
      assert.ok(
        providers.some(({ identity }) => identity !== undefined),
        'secrets that are not encrypted cannot be read',
      );
      const wanted = name.includes('abstract') ? 'unix:///@kms-plugin' : `unix://${socket}`;
      const all = providers.flatMap(({ kms }) => (kms === undefined ? [] : [kms.endpoint]));
      assert.ok(all.length > 0);
      for (const endpoint of all) assert.equal(endpoint, wanted);
    });
  }
});
