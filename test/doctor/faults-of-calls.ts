/** Faults that clients meet while token and keys are well, then those of login and keys. */
import assert from 'node:assert/strict';
import { keyOf, listenerOf } from '../config/fixtures.ts';
import { KmsClient } from '../api/support/clients.ts';
import type { Fault } from './fault.ts';
import { FAULTS_OF_LOGIN_AND_KEYS } from './faults-inside.ts';
import { running } from '../service/processes.ts';
import type { Place } from './place.ts';

/** What a client asks, as kube-apiserver would on the listener without TLS. */
export async function asClient<T>(place: Place, ask: (client: KmsClient) => Promise<T>): Promise<T> {
  const client = new KmsClient(place.at('run/kubernetes.sock'));
  try {
    return await ask(client);
  } finally {
    client.close();
  }
}

export const encrypted = (place: Place, bytes = 20): Promise<Buffer> =>
  asClient(place, async (client) => {
    const { response, error } = await client.encrypt(Buffer.alloc(bytes, 0x61));
    assert.ok(response, error?.message);
    return response.cipher;
  });

/** Reads that value ten times, as CredHub would at ten requests of its users. */
export const readTen = (place: Place, ciphertext: Buffer): Promise<void> =>
  asClient(place, async (client) => {
    for (let at = 0; at < 10; at++) assert.ok((await client.decrypt(ciphertext)).error);
  });

/** A value that was changed in the database. The counts of the last hour begin again with a restart. */
const damaged = (change: (ciphertext: Buffer) => Buffer): Pick<Fault, 'check' | 'seed' | 'undo'> => ({
  check: 'failed calls',
  seed: async (place) => readTen(place, change(await encrypted(place))),
  undo: (place) => place.restart(),
});

const contents: readonly Fault[] = [
  {
    seeded: 'values under a key that has left the configuration',
    check: 'failed calls',
    names: /^10 of \d+ calls .* failed with KMS-3001, asked for key [0-9a-f]{32}$/,
    mend: /list the label of that key under keys with state: decrypt/,
    never: /keys create/,
    seed: async (place) => {
      await place.reload((raw) => {
        Object.assign(keyOf(raw, 0), { state: 'decrypt' });
        Object.assign(keyOf(raw, 1), { state: 'active' });
      });
      const ciphertext = await encrypted(place);
      await place.reload((raw) => raw.keys.pop());
      await readTen(place, ciphertext);
    },
    undo: (place) => place.restart(),
  },
  {
    seeded: 'a value that was changed in the database',
    names: /^10 of \d+ calls .* failed with KMS-4004/,
    mend: /restore it from a backup/,
    ...damaged((ciphertext) =>
      Buffer.concat([ciphertext.subarray(0, -1), Buffer.from([(ciphertext.at(-1) ?? 0) ^ 1])]),
    ),
  },
  {
    seeded: 'a value that was cut short in the database',
    names: /^10 of \d+ calls .* failed with KMS-4002/,
    mend: /a column that is too short cuts it/,
    ...damaged((ciphertext) => ciphertext.subarray(0, 30)),
  },
  {
    seeded: 'a value that a newer release wrote',
    names: /^10 of \d+ calls .* failed with KMS-4003/,
    mend: /go back to the newer release/,
    ...damaged((ciphertext) => {
      const newer = Buffer.from(ciphertext);
      newer[8] = 2;
      return newer;
    }),
  },
  {
    seeded: "a CredHub that starts and tries this plugin's key on the internal provider's canaries (KMS-4001)",
    check: 'failed calls',
    harmless: true,
    names: /^none of \d+ in the last/,
    mend: /^$/,
    seed: (place) => readTen(place, Buffer.alloc(144, 0x62)),
    undo: () => undefined,
  },
];

const waiting: readonly Fault[] = [
  {
    seeded: 'an active key that the token does not hold, on a listener with patience',
    check: 'key',
    names: /key-2031 \(active\): .*no AES key/,
    mend: /restore it from the HSM's backup/,
    never: /client log/,
    seed: async (place) => {
      await place.reload((raw) => {
        Object.assign(keyOf(raw, 0), { label: 'key-2031' });
        Object.assign(listenerOf(raw, 0), { patience: '5m' });
      });
      await place.until(({ keys }) => keys[0]?.label === 'key-2031');
    },
    diagnose: async (place) => {
      const diagnosis = await place.doctor();
      const trip = diagnosis.lines.find(({ check, seen }) => check === 'round trip' && seen.startsWith('credhub'));
      assert.match(trip?.seen ?? '', /it waits for: /);
      const ran = await running('roundtrip', '--listener', 'credhub', '--config', place.installation.config);
      assert.match(ran.stdout, /DEADLINE_EXCEEDED.*\n {2}-> it waits for: .*no AES key labelled "key-2031"/);
      return diagnosis;
    },
    undo: (place) => place.reload(),
  },
  {
    seeded: 'a key that is listed and retired',
    check: 'key',
    names: /key id [0-9a-f]{32} is in retired_keys as well, and counts as listed/,
    mend: /take it out of retired_keys/,
    seed: async (place) => {
      const id = (await place.status()).keys[1]?.found[0]?.keyIds[0];
      await place.reload((raw) => (raw['retired_keys'] = [id]));
    },
    undo: (place) => place.reload(),
  },
];

export const FAULTS_OF_CALLS: readonly Fault[] = [...FAULTS_OF_LOGIN_AND_KEYS, ...waiting, ...contents];
