/** Faults of the host, of the container, and of CredHub beside the plugin. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { stringify } from 'yaml';
import type { Diagnosis } from '../../src/doctor/index.ts';
import { isLocked } from '../../src/doctor/look/locks.ts';
import { Process } from '../../src/doctor/look/processes.ts';
import { HOST, listenerOf } from '../config/fixtures.ts';
import { KmsClient } from '../api/support/clients.ts';
import type { Fault } from './fault.ts';
import type { Place } from './place.ts';

const DAY_S = 86_400;
let softLimit = 0;
const BUNDLE = path.resolve(import.meta.dirname, '../../dist/kms-plugin.cjs');

const host: readonly Fault[] = [
  {
    seeded: 'another program on the health port',
    check: 'health port',
    names: /is answered by another program \(HTTP 200\)/,
    mend: /health\.port/,
    seed: async (place) => {
      await place.stop();
      const { healthPort } = place.installation;
      const script = `require('http').createServer((_, answer) => answer.end('hello')).listen(${healthPort}, '127.0.0.1')`;
      place.helper(process.execPath, ['-e', script]);
      place.start();
      await place.well();
    },
    undo: async (place) => {
      await place.endHelpers();
      await place.restart();
    },
  },
  {
    seeded: 'the clock set back by two days',
    check: 'clock',
    names: /the clock was set back/,
    mend: /if this one is wrong, set it/,
    seed: (place) => {
      const later = Date.now() / 1000 + 2 * DAY_S;
      utimesSync(place.at('state/serve.lock'), later, later);
    },
    undo: (place) => utimesSync(place.at('state/serve.lock'), new Date(), new Date()),
  },
  {
    seeded: 'a full disk under state_dir',
    check: 'disk',
    names: /state_dir .*: 0(\.\d)? MiB free: the plugin goes on, but cannot remember/,
    mend: /make room on that file system/,
    seed: (place) => place.stop(),
    diagnose: (place) => Promise.resolve(onFullDisk(place)),
    undo: (place) => place.start(),
  },
  {
    seeded: 'a full disk under state_dir while the plugin is down',
    check: 'state_dir',
    names: /there is no room in .*state \(ENOSPC\), and the plugin is not running/,
    mend: /make room on that file system .*, then start it/,
    seed: (place) => place.stop(),
    diagnose: (place) => Promise.resolve(onFullDisk(place, 'down')),
    undo: (place) => place.start(),
  },
  {
    seeded: "a socket's directory that the plugin's user cannot enter (mode 0000)",
    check: 'configuration',
    names:
      /endpoint .*its directory .*run cannot be entered or written to by user \d+ \(EACCES; it belongs to user \d+, mode 0000\)/,
    mend: /who may enter it and write there/,
    never: /restart/,
    seed: (place) => chmodSync(place.at('run'), 0o000),
    diagnose: (place) => Promise.resolve(asPlainUser(place)),
    undo: (place) => chmodSync(place.at('run'), 0o700),
  },
  {
    seeded: 'a plugin that has its lock and does not listen yet',
    check: 'socket',
    harmless: true,
    names: /credhub\.sock is not there: process \d+ has only begun/,
    mend: /wait a few seconds/,
    never: /start it/,
    seed: async (place) => {
      await place.stop();
      place.helper('flock', ['--no-fork', place.at('state/serve.lock'), 'sleep', '1000']);
      while (!isLocked('/proc', place.at('state/serve.lock'))) await sleep(20);
    },
    undo: async (place) => {
      await place.endHelpers();
      place.start();
    },
  },
  {
    seeded: 'a clock that is two years ahead',
    check: 'clock',
    harmless: true,
    names:
      /set forward by 7\d\d d since the service started, and .*server\.crt ran out on .*: it is old, or the clock is ahead/,
    mend: /compare with another clock/,
    seed: () => undefined,
    diagnose: (place) => place.doctorAround({ now: () => new Date(Date.now() + 730 * DAY_S * 1000) }),
    undo: () => undefined,
  },
  {
    seeded: 'a configuration that was faulty when it was read again, and has been put right since',
    check: 'configuration',
    names: /the service refused the file at/,
    mend: /the file has no fault now/,
    seed: async (place) => {
      place.configure((raw) => (raw['nonsense'] = 1));
      assert.notDeepEqual((await place.control().reload()).problems, []);
      place.configure();
    },
    undo: (place) => place.reload(),
  },
  {
    seeded: 'a container whose memory is nearly used up, by page cache',
    check: 'limits',
    harmless: true,
    names: /^75 MiB of 256 MiB memory \(plugin process .* MiB, token process .* MiB\)$/,
    mend: /^$/,
    seed: (place) => {
      mkdirSync(place.at('cgroup'));
      place.write(place.at('cgroup/memory.current'), `${255 << 20}\n`);
      place.write(place.at('cgroup/memory.stat'), `anon 1\ninactive_file ${180 << 20}\nactive_file 1\n`);
      place.write(place.at('cgroup/memory.max'), `${256 << 20}\n`);
    },
    diagnose: (place) => place.doctorAround({ cgroup: place.at('cgroup') }),
    undo: (place) => rmSync(place.at('cgroup'), { recursive: true }),
  },
  {
    seeded: 'a limit of 100 open files',
    check: 'limits',
    names: /limit of 100 open files is too low/,
    mend: /kms-plugin\.open_files/,
    seed: (place) => {
      softLimit = new Process('/proc', place.service.pid).limit('Max open files') ?? 0;
      setOpenFiles(place, '100:');
    },
    undo: (place) => setOpenFiles(place, `${softLimit}:`),
  },
  {
    seeded: 'core files allowed for the token process',
    check: 'limits',
    names: /a core file of the token process can be written/,
    mend: /ulimit -c 0/,
    seed: async (place) => writeFileSync(`/proc/${await place.tokenPid()}/coredump_filter`, '0x33'),
    undo: async (place) => writeFileSync(`/proc/${await place.tokenPid()}/coredump_filter`, '0x0'),
  },
  {
    seeded: 'a container whose memory is nearly used up',
    check: 'limits',
    names: /255\.0? ?MiB of 256 MiB memory|255 MiB of 256 MiB/,
    mend: /kms-plugin\.memory_limit/,
    seed: (place) => {
      mkdirSync(place.at('cgroup'));
      place.write(place.at('cgroup/memory.current'), `${255 << 20}\n`);
      place.write(place.at('cgroup/memory.max'), `${256 << 20}\n`);
      place.write(place.at('cgroup/memory.events'), 'oom 0\noom_kill 0\n');
    },
    diagnose: (place) => place.doctorAround({ cgroup: place.at('cgroup') }),
    undo: (place) => rmSync(place.at('cgroup'), { recursive: true }),
  },
];

/** The service and doctor in a mount namespace whose state_dir is a small file system that is filled up. */
function onFullDisk(place: Place, service: 'up' | 'down' = 'up'): Diagnosis {
  const root = process.getuid?.() === 0 ? [] : ['--map-root-user'];
  const { config } = place.installation;
  const script = path.join(import.meta.dirname, 'full-disk.sh');
  const args = [...root, '--mount', 'bash', script, place.at('state'), process.execPath, BUNDLE, config, service];
  return JSON.parse(execFileSync('unshare', args, { encoding: 'utf8', timeout: 60_000 })) as Diagnosis;
}

/** Doctor without the rights by which root enters every directory; another user lacks them anyway. */
function asPlainUser(place: Place): Diagnosis {
  const drop = ['setpriv', '--bounding-set=-dac_override,-dac_read_search', '--inh-caps=-all'];
  const doctor = [process.execPath, BUNDLE, 'doctor', '--json', '--config', place.installation.config];
  const { stdout } = spawnSync('env', [...(process.getuid?.() === 0 ? drop : []), ...doctor], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return JSON.parse(stdout) as Diagnosis;
}

function setOpenFiles(place: Place, limit: string): void {
  execFileSync('prlimit', ['--pid', String(place.service.pid), `--nofile=${limit}`]);
}

interface Settings {
  endpoint: string;
  host: string;
  ca: string;
  active: readonly [plugin: boolean, internal: boolean];
  /** As on the bootstrap instance. */
  makesCanary: boolean;
}

/** CredHub's settings as its BOSH job renders them. */
function credhubSettings(place: Place, change: (settings: Settings) => void = () => undefined): void {
  const settings: Settings = {
    endpoint: place.at('run/credhub.sock'),
    host: HOST,
    ca: readFileSync(place.at('ca.crt'), 'utf8'),
    active: [true, false],
    makesCanary: true,
  };
  change(settings);
  const { endpoint, host: name, ca, active, makesCanary } = settings;
  const keyOf = (isActive: boolean, more: object): object => ({ ...(isActive ? { active: true } : {}), ...more });
  const providers = [
    {
      provider_name: 'hsm',
      provider_type: 'kms-plugin',
      keys: [keyOf(active[0], { encryption_key_name: 'any' })],
      configuration: { endpoint, host: name, ca },
    },
    {
      provider_name: 'int',
      provider_type: 'internal',
      keys: [keyOf(active[1], { encryption_password: 'a'.repeat(20) })],
    },
  ];
  mkdirSync(place.at('application'), { recursive: true });
  place.write(
    place.at('application/encryption.yml'),
    stringify({ encryption: { key_creation_enabled: makesCanary, providers } }),
  );
  place.write(place.at('application/server.yml'), stringify({ server: { port: 1 } }));
}

const withCredhub = (
  change?: (settings: Settings, place: Place) => void,
): Pick<Fault, 'seed' | 'undo' | 'diagnose'> & { diagnose: NonNullable<Fault['diagnose']> } => ({
  seed: (place) => credhubSettings(place, (settings) => change?.(settings, place)),
  diagnose: (place) => place.doctorAround({ credhub: place.at('application'), credhubStart: 0 }),
  undo: (place) => rmSync(place.at('application'), { recursive: true }),
});

const credhub: readonly Fault[] = [
  {
    seeded: "CredHub's endpoint written as unix:///…",
    check: 'credhub',
    names: /its endpoint is unix:\/\/\/.*takes for the name of a file/,
    mend: /write the bare path/,
    ...withCredhub((settings) => (settings.endpoint = `unix://${settings.endpoint}`)),
  },
  {
    seeded: "another path as CredHub's endpoint",
    check: 'credhub',
    names: /its endpoint .*other\.sock is no listener of ours/,
    mend: /give both the same path/,
    ...withCredhub((settings, place) => (settings.endpoint = place.at('run/other.sock'))),
  },
  {
    seeded: "a listener without TLS at CredHub's endpoint",
    check: 'credhub',
    names: /our listener kubernetes at its endpoint has no TLS/,
    mend: /give that listener tls/,
    ...withCredhub((settings, place) => (settings.endpoint = place.at('run/kubernetes.sock'))),
  },
  {
    seeded: 'a host in CredHub that the certificate does not name',
    check: 'credhub',
    names: /it does not name kms\.internal .*No subject alternative DNS name matching kms\.internal found/,
    mend: /subject alternative name kms\.internal/,
    ...withCredhub((settings) => (settings.host = 'kms.internal')),
  },
  {
    seeded: 'a CA in CredHub that did not sign the certificate',
    check: 'credhub',
    names: /it was not signed by ca \("PKIX path building failed/,
    mend: /give ca the CA that signed the certificate/,
    ...withCredhub((settings, place) => {
      place.installation.fixture.certify('ca3', { ca: true });
      settings.ca = readFileSync(place.at('ca3.crt'), 'utf8');
    }),
  },
  {
    seeded: 'two active keys in CredHub',
    check: 'credhub',
    names: /2 keys are active/,
    mend: /exactly one key active/,
    ...withCredhub((settings) => (settings.active = [true, true])),
  },
  {
    seeded: 'CredHub running, but stuck at its start',
    check: 'credhub',
    names: /its process \d+ runs, but nobody listens on port 1: it is stuck at its start/,
    mend: /restart it \(BOSH: monit restart credhub\)/,
    ...withCredhub(),
    seed: (place) => {
      credhubSettings(place);
      silentCredhub(place);
    },
    undo: async (place) => {
      await place.endHelpers();
      rmSync(place.at('application'), { recursive: true });
    },
  },
];

/** A process that looks like CredHub's, which listens nowhere. */
const silentCredhub = (place: Place): void =>
  void place.helper(
    process.execPath,
    ['-e', 'setInterval(() => {}, 1e6)', '--', '-jar', place.at('credhub.jar')],
    'java',
  );

const credhubThatWaits: readonly Fault[] = [
  {
    seeded: 'CredHub waiting for the canary that its first instance makes',
    check: 'credhub',
    harmless: true,
    names: /since \d+ s it starts, or waits \(600 s at most\) for the canary/,
    mend: /wait and run doctor again/,
    never: /monit restart credhub/,
    ...withCredhub((settings) => (settings.makesCanary = false)),
    seed: (place) => {
      credhubSettings(place, (settings) => (settings.makesCanary = false));
      silentCredhub(place);
    },
    undo: async (place) => {
      await place.endHelpers();
      rmSync(place.at('application'), { recursive: true });
    },
  },
  {
    seeded: 'CredHub waiting at its start for an HSM that is away',
    check: 'token',
    names: /CKR_TOKEN_NOT_PRESENT/,
    mend: /the plugin goes on trying and recovers by itself/,
    never: /monit restart credhub/,
    seed: async (place) => {
      credhubSettings(place);
      silentCredhub(place);
      await place.reload((raw) => Object.assign(listenerOf(raw, 0), { patience: '5m' }));
      place.faulty.control({ removed: {} });
      await place.newConnection();
      await place.until(({ token }) => token.state !== 'ready');
      const client = new KmsClient(place.at('run/credhub.sock'), readFileSync(place.at('ca.crt')));
      place.atEnd(() => client.close());
      void client.encrypt(Buffer.alloc(128));
      await place.until(({ calls }) => calls.waiting > 0);
    },
    diagnose: async (place) => {
      const diagnosis = await place.doctorAround({ credhub: place.at('application'), credhubStart: 0 });
      const line = diagnosis.lines.find(({ check, seen }) => check === 'credhub' && seen.includes('nobody listens'));
      assert.equal(line?.verdict, 'warning', line?.seen);
      assert.match(line.seen, /it waits at its start for this plugin/);
      return diagnosis;
    },
    undo: async (place) => {
      place.faulty.control({});
      await place.endHelpers();
      rmSync(place.at('application'), { recursive: true });
      await place.reload();
    },
  },
];

export const FAULTS_AROUND: readonly Fault[] = [...host, ...credhub, ...credhubThatWaits];
