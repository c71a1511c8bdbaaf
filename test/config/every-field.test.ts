import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { asFarAsLive, describeChanges, type Config } from '../../src/config/index.ts';

/** With every optional field: a field that is new in Config is missing below until somebody adds it, and does not compile. */
type Whole<T> = T extends readonly (infer Item)[]
  ? readonly Whole<Item>[]
  : T extends object
    ? { readonly [K in keyof T]-?: Whole<T[K]> }
    : T;

const whole: Whole<Config> = {
  file: '/etc/kms-plugin.yml',
  directory: '/etc',
  stateDir: '/state',
  controlSocket: '/state/control.sock',
  listeners: [
    {
      name: 'credhub',
      endpoint: { kind: 'path', path: '/run/credhub.sock' },
      apis: ['v1beta1'],
      tls: { certificateFile: '/server.crt', privateKeyFile: '/server.key', caFile: '/ca.crt', host: 'kms.test' },
      mode: 0o600,
      patienceMs: 1,
      allowUnprotected: false,
    },
  ],
  token: {
    module: '/module.so',
    partition: { by: 'label', label: 'credhub' },
    login: 'user',
    pinFile: '/pin',
    pinFileNewline: 'keep',
    pinDespiteFlag: false,
    initArgs: 'configdir=/nss',
    environment: { CONF: '/hsm.conf' },
    profile: 'auto',
    sessions: 16,
    vendorTimeoutMs: 20_000,
  },
  keys: [
    {
      label: 'key',
      ckaId: '0a',
      anyLabel: true,
      state: 'active',
      create: false,
      keyId: '0'.repeat(32),
      moreIds: ['1'.repeat(32)],
      macLabel: 'mac',
      size: 256,
      allowUnsafe: false,
    },
  ],
  retiredKeys: ['1'.repeat(32)],
  scheme: {
    name: 'envelope',
    largeValues: 'refuse',
    envelope: { dataKey: 'reuse', maxAgeMs: 1, maxValues: 2, maxBytes: 3, cacheSize: 4, cacheTtlMs: 5 },
  },
  limits: {
    callDeadlineMs: 1,
    hideMs: 2,
    inFlight: 3,
    queued: 4,
    connections: 5,
    valueBytes: 6,
    messageBytes: 7,
    shutdownMs: 8,
  },
  health: { address: '127.0.0.1', port: 20_358 },
  log: { level: 'info' },
  auditFile: '/audit.log',
  warnings: ['a warning'],
};

/** The file is the one that is read again, and the warnings are logged at each reload: none of them is a setting. */
const NO_SETTINGS: readonly string[] = ['file', 'directory', 'warnings'];

type Path = readonly (string | number)[];

/** Each value that is no section or list, by its path. */
function leaves(value: unknown, path: Path = []): readonly Path[] {
  if (typeof value !== 'object' || value === null) return [path];
  return Object.entries(value).flatMap(([name, inner]) =>
    leaves(inner, [...path, Array.isArray(value) ? Number(name) : name]),
  );
}

/** The same, with another value at that path, or none. */
function changed(path: Path, how: 'other' | 'gone'): Config {
  const copy = structuredClone(whole) as unknown as Record<string | number, unknown>;
  let at = copy;
  for (const step of path.slice(0, -1)) at = at[step] as typeof at;
  const last = path.at(-1) ?? '';
  if (how === 'other') at[last] = otherThan(at[last]);
  else if (Array.isArray(at)) at.splice(Number(last), 1);
  else Reflect.deleteProperty(at, last);
  return copy as unknown as Config;
}

const otherThan = (value: unknown): unknown =>
  typeof value === 'number' ? value + 1 : typeof value === 'boolean' ? !value : `${String(value)}2`;

const settings = leaves(whole).filter(([first]) => !NO_SETTINGS.includes(String(first)));

describe('every field of the configuration, changed while the service runs', () => {
  for (const path of settings) {
    for (const how of ['other', 'gone'] as const) {
      test(`${path.join('.')}: ${how}`, () => {
        const next = changed(path, how);
        const { live, needsRestart } = describeChanges(whole, next);
        assert.notDeepEqual([...live, ...needsRestart], [], 'the change is not seen');
        // What the service takes over is what is called live, and the rest is still open afterwards.
        const taken = asFarAsLive(whole, next);
        assert.deepEqual(describeChanges(taken, next), { live: [], needsRestart });
        assert.deepEqual(describeChanges(whole, taken).needsRestart, []);
      });
    }
  }
});
