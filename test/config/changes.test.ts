import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { describeChanges, loadConfig } from '../../src/config/index.ts';
import { Fixture, keyOf, listenerOf, tlsOf, type Raw } from './fixtures.ts';

const fixture = new Fixture();
const other = fixture.certify('next', { names: 'DNS:kms-plugin.test', issuer: fixture.ca });

function load(change: (raw: Raw) => void = () => undefined): ReturnType<typeof loadConfig> {
  const raw = fixture.good();
  change(raw);
  fixture.check(raw);
  return loadConfig(fixture.at('kms-plugin.yml'));
}

const before = load();

interface Change {
  readonly what: string;
  readonly change: (raw: Raw) => void;
  readonly live?: readonly string[];
  readonly needsRestart?: readonly string[];
}

const changes: readonly Change[] = [
  { what: 'nothing', change: () => undefined },
  { what: 'the order of settings', change: (raw) => raw.keys.reverse() },
  {
    what: 'which key is active',
    change: (raw) => {
      keyOf(raw, 0)['state'] = 'decrypt';
      keyOf(raw, 1)['state'] = 'active';
    },
    live: ['keys[key-2024].state', 'keys[key-2026].state'],
  },
  {
    what: 'a new key',
    change: (raw) => raw.keys.push({ label: 'key-2027', state: 'decrypt' }),
    live: ['keys[key-2027]'],
  },
  { what: 'a key less', change: (raw) => raw.keys.pop(), live: ['keys[key-2024]'] },
  { what: 'a retired key', change: (raw) => (raw['retired_keys'] = ['0'.repeat(32)]), live: ['retired_keys'] },
  {
    what: 'certificate and key',
    change: (raw) => Object.assign(tlsOf(raw), { certificate: other.certificate, private_key: other.key }),
    live: ['listeners[credhub].tls.certificate', 'listeners[credhub].tls.private_key'],
  },
  { what: 'log level', change: (raw) => (raw['log'] = { level: 'debug' }), live: ['log.level'] },
  { what: 'audit trail', change: (raw) => (raw['audit'] = { file: 'audit.log' }), live: ['audit.file'] },
  {
    what: 'limits',
    change: (raw) => (raw['limits'] = { queued: 1, value: '2MiB' }),
    live: ['limits.queued', 'limits.value'],
  },
  { what: 'scheme', change: (raw) => (raw['scheme'] = { name: 'envelope' }), live: ['scheme'] },
  { what: 'state_dir', change: (raw) => (raw.state_dir = 'state2'), needsRestart: ['control_socket', 'state_dir'] },
  { what: 'control_socket', change: (raw) => (raw['control_socket'] = 'c.sock'), needsRestart: ['control_socket'] },
  { what: 'health', change: (raw) => (raw['health'] = { port: 1 }), needsRestart: ['health.port'] },
  { what: 'sessions', change: (raw) => (raw.token['sessions'] = 3), needsRestart: ['token.sessions'] },
  {
    what: 'the environment, without its values',
    change: (raw) => (raw.token['environment'] = { A: 'hunter2' }),
    needsRestart: ['token.environment.A'],
  },
  {
    what: 'partition and PIN file',
    change: (raw) => Object.assign(raw.token, { partition: { slot: 1 }, pin_file: fixture.write('pin2', '1') }),
    needsRestart: ['token.partition', 'token.pin_file'],
  },
  {
    what: "a listener's socket, and what it serves",
    change: (raw) =>
      Object.assign(listenerOf(raw, 1), { endpoint: 'run/k.sock', apis: ['v2'], mode: '0660', patience: '1s' }),
    live: ['listeners[kubernetes].apis', 'listeners[kubernetes].patience'],
    needsRestart: ['listeners[kubernetes].endpoint', 'listeners[kubernetes].mode'],
  },
  {
    what: 'a new listener',
    change: (raw) => raw.listeners.push({ name: 'x.y', endpoint: 'run/x.sock', apis: ['v2'] }),
    needsRestart: ['listeners[x.y]'],
  },
  {
    what: 'a listener renamed',
    change: (raw) => (listenerOf(raw, 1)['name'] = 'kube'),
    needsRestart: ['listeners[kube]', 'listeners[kubernetes]'],
  },
  {
    what: 'TLS taken away',
    change: (raw) => Reflect.deleteProperty(listenerOf(raw, 0), 'tls'),
    live: ['listeners[credhub].patience'],
    needsRestart: ['listeners[credhub].tls'],
  },
  {
    what: 'some of both',
    change: (raw) => Object.assign(raw, { log: { level: 'warn' }, health: { address: '::1' } }),
    live: ['log.level'],
    needsRestart: ['health.address'],
  },
];

describe('a running service, as to changes of', () => {
  for (const { what, change, live = [], needsRestart = [] } of changes) {
    test(what, () => {
      const described = describeChanges(before, load(change));
      assert.deepEqual(
        { live: [...described.live].sort(), needsRestart: [...described.needsRestart].sort() },
        { live, needsRestart },
      );
    });
  }
});
