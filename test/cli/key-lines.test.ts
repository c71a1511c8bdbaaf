import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { dropping } from '../../src/cli/key-lines.ts';

const CREDHUB = { apis: ['v1beta1'], tls: true };
const KUBERNETES_V1 = { apis: ['v1beta1'], tls: false };
const KUBERNETES_V2 = { apis: ['v2'], tls: false };

const ROUND_TRIP = 'a full round trip plugin -> internal provider -> plugin';
const MIGRATION =
  'a storage migration of all that is encrypted in etcd, and keep it in the HSM for the backups of etcd';

describe('what proves that a key may leave the list', () => {
  it('is what holds for the clients that there are', () => {
    const keep = 'keep it: unused proves nothing; drop it only after';
    assert.deepEqual(dropping([CREDHUB]), [`${keep} ${ROUND_TRIP}`]);
    assert.deepEqual(dropping([KUBERNETES_V2]), [`${keep} ${MIGRATION}`]);
    assert.deepEqual(dropping([KUBERNETES_V1]), [`${keep} ${MIGRATION}`]);
    assert.deepEqual(dropping([KUBERNETES_V1, CREDHUB, KUBERNETES_V2]), [
      `CredHub: ${keep} ${ROUND_TRIP}`,
      `kube-apiserver: ${keep} ${MIGRATION}`,
    ]);
  });
});
