/** Properties of the job kms-plugin that work, for tests to vary. */
import { makeCertificate } from './certificates.ts';

export const HOST = 'kms-plugin.internal';
export const tls = makeCertificate([HOST]);
export const otherTls = makeCertificate(['other.internal']);

type Tree = Readonly<Record<string, unknown>>;

const isTree = (value: unknown): value is Tree => typeof value === 'object' && value !== null && !Array.isArray(value);

function merge(base: Tree, change: Tree): Tree {
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(change)) {
    const before = merged[key];
    merged[key] = isTree(before) && isTree(value) ? merge(before, value) : value;
  }
  return merged;
}

const COMMON = { tls, keys: [{ label: 'credhub-1', state: 'active' }] };

export const HSMS = {
  softhsm2: { hsm: 'softhsm2', softhsm2: { pin: '1234 5678' } },
  luna: {
    hsm: 'luna',
    luna: {
      partition: 'my-hsm-partition',
      partition_password: 'example-hsm-password',
      client_certificate: tls.certificate,
      client_key: tls.private_key,
      servers: [
        { host: '10.0.1.1', port: 1792, partition_serial_number: 123123, certificate: tls.ca },
        { host: '10.0.1.2', partition_serial_number: 456456, certificate: otherTls.ca },
      ],
    },
  },
  cloudhsm: {
    hsm: 'cloudhsm',
    module: '/var/vcap/packages/cloudhsm-client/opt/cloudhsm/lib/libcloudhsm_pkcs11.so',
    cloudhsm: {
      user: 'credhub',
      password: 'pass:word',
      hsm_ca_certificate: tls.ca,
      servers: [{ host: '10.0.1.1' }, { host: '10.0.2.1', port: 2224 }],
      options: { disable_key_availability_check: true },
    },
  },
  nshield: {
    hsm: 'nshield',
    nshield: {
      partition: 'credhub-softcard',
      pin: 'passphrase',
      variables: { CKNFAST_LOADSHARING: 1, CKNFAST_FAKE_ACCELERATOR_LOGIN: 1, NFAST_SERVER_PORT: '9000' },
    },
  },
  generic: {
    hsm: 'generic',
    module: '/var/vcap/packages/acme/lib/libacme.so',
    generic: { partition: { serial: '0815' }, pin: 'secret' },
  },
} as const;

export type HsmName = keyof typeof HSMS;
export const HSM_NAMES = Object.keys(HSMS) as HsmName[];

/** What stands under the property kms-plugin for this HSM, with these changes. */
export function properties(hsm: HsmName, change: Tree = {}): { readonly 'kms-plugin': Tree } {
  return { 'kms-plugin': merge(merge(COMMON, HSMS[hsm]), change) };
}
