/** Faults between the client and the plugin process. */
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Diagnosis } from '../../src/doctor/index.ts';
import { HOST, tlsOf } from '../config/fixtures.ts';
import type { Fault } from './fault.ts';
import type { Place } from './place.ts';

const HOUR = 3_600_000;
const BUNDLE = path.resolve(import.meta.dirname, '../../dist/kms-plugin.cjs');
const socketOf = (place: Place): string => place.at('run/credhub.sock');

function swap(place: Place, name: string, by: string): void {
  copyFileSync(place.at(name), place.at(`${name}.good`));
  copyFileSync(place.at(by), place.at(name));
}
const swapBack = (place: Place, name: string): void => renameSync(place.at(`${name}.good`), place.at(name));

const configuration: readonly Fault[] = [
  {
    seeded: 'a setting with a typing error in the configuration file',
    check: 'configuration',
    names: /sesions.* is not a known setting/,
    mend: /sessions/,
    seed: (place) => place.configure((raw) => (raw.token['sesions'] = 8)),
    undo: (place) => place.configure(),
  },
  {
    seeded: 'a certificate that ran out an hour ago',
    check: 'configuration',
    names: /listeners\[0\]\.tls\.certificate.* has run out: .*CN=old/,
    mend: /renew the certificate/,
    seed: (place) => {
      const { fixture } = place.installation;
      const to = new Date(Date.now() - HOUR);
      fixture.certify('old', { names: `DNS:${HOST}`, issuer: fixture.ca, from: new Date(to.getTime() - HOUR), to });
      place.configure((raw) => Object.assign(tlsOf(raw), { certificate: 'old.crt', private_key: 'old.key' }));
    },
    undo: (place) => place.configure(),
  },
  {
    seeded: 'the private key of another certificate',
    check: 'configuration',
    names: /private_key.* does not belong to the certificate/,
    mend: /of one pair/,
    seed: (place) => swap(place, 'server.key', 'ca.key'),
    undo: (place) => swapBack(place, 'server.key'),
  },
  {
    seeded: 'a PIN file that ends in a line feed',
    check: 'configuration',
    names: /token\.pin_file.* ends in a line feed/,
    mend: /pin_file_newline/,
    seed: (place) => place.write(place.at('pin'), `${place.installation.hsm.pin}\n`),
    undo: (place) => place.write(place.at('pin'), place.installation.hsm.pin),
  },
  {
    seeded: 'the path of a module that is not installed',
    check: 'configuration',
    names: /token\.module.* does not exist/,
    mend: /install the HSM's client software/,
    seed: (place) => place.configure((raw) => (raw.token['module'] = '/opt/hsm/lib/libpkcs11.so')),
    undo: (place) => place.configure(),
  },
];

const files: readonly Fault[] = [
  {
    seeded: 'state_dir with mode 0755',
    check: 'access',
    names: /state_dir .* has mode 0755/,
    mend: /chmod 0700/,
    command: /chmod 0700 \S+/,
    seed: (place) => chmodSync(place.at('state'), 0o755),
    undo: (place) => chmodSync(place.at('state'), 0o700),
  },
  {
    seeded: 'a PIN file that every user can read',
    check: 'access',
    names: /pin_file .* has mode 0644/,
    mend: /chmod o-rwx/,
    command: /chmod o-rwx [^ ,]+/,
    seed: (place) => chmodSync(place.at('pin'), 0o644),
    undo: (place) => chmodSync(place.at('pin'), 0o600),
  },
  {
    seeded: 'state_dir on a file system that has become read-only',
    check: 'state_dir',
    names: /nothing can be written to .*state \(EROFS\)/,
    mend: /read-only: make it writable again/,
    seed: (place) => place.stop(),
    diagnose: (place) => Promise.resolve(onReadOnlyDisk(place)),
    undo: (place) => place.start(),
  },
  {
    seeded: 'state_dir removed under the running service',
    check: 'state_dir',
    names: /\/state was removed under the running service/,
    mend: /restart it/,
    seed: (place) => renameSync(place.at('state'), place.at('state.away')),
    undo: (place) => renameSync(place.at('state.away'), place.at('state')),
  },
];

/** Doctor in a mount namespace whose state_dir cannot be written: no service could start there. */
function onReadOnlyDisk(place: Place): Diagnosis {
  const root = process.getuid?.() === 0 ? [] : ['--map-root-user'];
  const script =
    'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && "$2" "$3" doctor --json --config "$4"; true';
  const { config } = place.installation;
  const args = [...root, '--mount', 'sh', '-c', script, 'sh', place.at('state'), process.execPath, BUNDLE, config];
  return JSON.parse(execFileSync('unshare', args, { encoding: 'utf8', timeout: 60_000 })) as Diagnosis;
}

const sockets: readonly Fault[] = [
  {
    seeded: "the socket's file removed",
    check: 'socket',
    names: /credhub\.sock is not there, though the service runs/,
    mend: /restart it/,
    seed: (place) => renameSync(socketOf(place), place.at('run/aside')),
    undo: (place) => renameSync(place.at('run/aside'), socketOf(place)),
  },
  {
    seeded: "an ordinary file in the socket's place",
    check: 'configuration',
    names: /credhub\.sock, which is there and is no socket/,
    mend: /remove that file/,
    seed: (place) => {
      renameSync(socketOf(place), place.at('run/aside'));
      place.write(socketOf(place), '');
    },
    undo: (place) => renameSync(place.at('run/aside'), socketOf(place)),
  },
  {
    seeded: 'a socket that every user can write to',
    check: 'access',
    names: /has mode 0666 instead of 0600: others can decrypt/,
    mend: /chmod 0600/,
    command: /chmod 0600 [^ ,]+/,
    seed: (place) => chmodSync(socketOf(place), 0o666),
    undo: (place) => chmodSync(socketOf(place), 0o600),
  },
  {
    seeded: "a socket's directory that every user can write to",
    check: 'access',
    names: /every user can replace the socket/,
    mend: /chmod o-w/,
    command: /chmod o-w \S+/,
    seed: (place) => chmodSync(place.at('run'), 0o777),
    undo: (place) => chmodSync(place.at('run'), 0o700),
  },
  {
    seeded: 'the service stopped',
    check: 'socket',
    names: /credhub\.sock is not there: the service is not running/,
    mend: /start it/,
    seed: (place) => place.stop(),
    undo: (place) => place.start(),
  },
  {
    seeded: 'the service killed (kill -9)',
    check: 'socket',
    names: /credhub\.sock is left over: nobody listens: the service is not running/,
    mend: /start it/,
    seed: (place) => place.kill(),
    undo: (place) => place.start(),
  },
  {
    seeded: 'the service hung (kill -STOP)',
    check: 'socket',
    names: /accepts, but the plugin process \d+ is stopped/,
    mend: /kill -CONT/,
    command: /kill -CONT \d+/,
    seed: (place) => void place.service.child.kill('SIGSTOP'),
    undo: (place) => void place.service.child.kill('SIGCONT'),
  },
  {
    seeded: 'another program that listens at the path of the socket',
    check: 'socket',
    names: /process \d+ listens there, which is not the plugin/,
    mend: /stop process \d+/,
    seed: async (place) => {
      renameSync(socketOf(place), place.at('run/aside'));
      const script = `require('net').createServer(c => c.resume()).listen(${JSON.stringify(socketOf(place))})`;
      place.helper(process.execPath, ['-e', script]);
      while (!existsSync(socketOf(place))) await sleep(20);
    },
    undo: async (place) => {
      await place.endHelpers();
      rmSync(socketOf(place), { force: true });
      renameSync(place.at('run/aside'), socketOf(place));
    },
  },
  {
    seeded: 'another program at an endpoint while the plugin is down',
    check: 'socket',
    names: /process \d+ listens there, but no plugin with this state_dir runs/,
    mend: /stop it, and start the plugin/,
    seed: async (place) => {
      await place.stop();
      const script = `require('net').createServer(c => c.resume()).listen(${JSON.stringify(socketOf(place))})`;
      place.helper(process.execPath, ['-e', script]);
      while (!existsSync(socketOf(place))) await sleep(20);
    },
    undo: async (place) => {
      await place.endHelpers();
      place.start();
    },
  },
];

const inTheProcess: readonly Fault[] = [
  {
    seeded: 'a certificate and CA renewed in the files, the service not told',
    check: 'tls',
    names: /CredHub would refuse the certificate: it was not signed by ca \("PKIX path building failed/,
    mend: /kms-plugin reload/,
    seed: (place) => {
      const { fixture } = place.installation;
      const ca = fixture.certify('ca2', { ca: true });
      fixture.certify('server2', { names: `DNS:${HOST}`, issuer: ca });
      place.configure((raw) =>
        Object.assign(tlsOf(raw), { ca: 'ca2.crt', certificate: 'server2.crt', private_key: 'server2.key' }),
      );
    },
    undo: (place) => place.configure(),
  },
  {
    seeded: 'the control socket removed',
    check: 'plugin process',
    names: /it runs \(serve\.lock is held by process \d+\), but its control socket is gone/,
    mend: /restart it/,
    seed: (place) => renameSync(place.at('state/control.sock'), place.at('state/aside')),
    undo: (place) => renameSync(place.at('state/aside'), place.at('state/control.sock')),
  },
];

export const FAULTS_OUTSIDE: readonly Fault[] = [...configuration, ...files, ...sockets, ...inTheProcess];
