import type { Family, Row } from './family.ts';
import type { Snapshot } from './snapshot.ts';

/** The listed keys and what was done with them; `key` is the label in the configuration. */
export const KEY_FAMILIES: readonly Family<Snapshot>[] = [
  {
    name: 'kms_plugin_keys_found',
    type: 'gauge',
    help: 'Keys on the token under a listed label: 0 when it is missing, 2 where key_id must choose.',
    labels: ['key', 'state'],
    rows: ({ status }) => status.keys.map(({ label, state, found }) => [{ key: label, state }, found.length]),
  },
  {
    name: 'kms_plugin_key_usable',
    type: 'gauge',
    help: '1 when the key can do what its state asks of it.',
    labels: ['key', 'key_id', 'state'],
    rows: (snapshot) =>
      eachKey(snapshot, ({ label, state, keyId, found }) => [
        [{ key: label, key_id: keyId, state }, Number(found.usable)],
      ]),
  },
  {
    name: 'kms_plugin_key_operations_total',
    type: 'counter',
    help: 'Operations that succeeded under a key since the start.',
    labels: ['key', 'key_id', 'operation'],
    rows: (snapshot) =>
      eachKey(snapshot, ({ label, keyId, found }) => [
        [{ key: label, key_id: keyId, operation: 'encrypt' }, found.encrypts],
        [{ key: label, key_id: keyId, operation: 'decrypt' }, found.decrypts],
      ]),
  },
  {
    name: 'kms_plugin_key_ivs_used_total',
    type: 'counter',
    help: 'Encryptions under a key id with an IV made here, over restarts, on this host. 2^32 of all hosts is the limit (NIST SP 800-38D, 8.3).',
    labels: ['key', 'key_id'],
    rows: (snapshot) =>
      eachKey(snapshot, ({ label, found }) =>
        found.keyIds.map((id) => [{ key: label, key_id: id }, snapshot.ivCount(id)]),
      ),
  },
  {
    name: 'kms_plugin_data_keys_cached',
    type: 'gauge',
    help: 'Opened data keys in memory.',
    rows: ({ dataKeys }) => [[{}, dataKeys.cached]],
  },
  {
    name: 'kms_plugin_data_key_cache_hits_total',
    type: 'counter',
    help: 'Decryptions whose data key was in memory.',
    rows: ({ dataKeys }) => [[{}, dataKeys.hits]],
  },
  {
    name: 'kms_plugin_data_key_cache_misses_total',
    type: 'counter',
    help: 'Decryptions whose data key the HSM had to open.',
    rows: ({ dataKeys }) => [[{}, dataKeys.misses]],
  },
  {
    name: 'kms_plugin_data_keys_made_total',
    type: 'counter',
    help: 'Data keys made and sealed by the HSM.',
    rows: ({ dataKeys }) => [[{}, dataKeys.made]],
  },
];

type KeyReport = Snapshot['status']['keys'][number];

interface OneKey {
  readonly label: string;
  readonly state: KeyReport['state'];
  /** The id that it writes. */
  readonly keyId: string;
  readonly found: KeyReport['found'][number];
}

/** Keys without an id (none can be computed yet) are left out. */
function eachKey({ status }: Snapshot, rows: (key: OneKey) => Row[]): Row[] {
  return status.keys.flatMap(({ label, state, found: all }) =>
    all.flatMap((found) => {
      const keyId = found.keyIds[0];
      return keyId === undefined ? [] : rows({ label, state, keyId, found });
    }),
  );
}
