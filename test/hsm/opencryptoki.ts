import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startDaemon } from './daemon.ts';
import { hsmMethods, provision } from './fixture.ts';
import type { Hsm } from './fixture.ts';

const module = '/usr/lib/x86_64-linux-gnu/pkcs11/libopencryptoki.so';

/** Runs in mount and IPC namespaces of its own: openCryptoki's paths are compiled in, and it uses System V memory. */
const setUp = (etc: string): string =>
  [
    'set -e',
    'mount -t tmpfs tmpfs /run',
    'mount -t tmpfs tmpfs /var/lib/opencryptoki',
    // Shared memory has the token's path as its name, and outlives the processes.
    'mount -t tmpfs tmpfs /dev/shm',
    `mount --bind '${etc}' /etc/opencryptoki`,
    'mkdir -p /run/opencryptoki /run/lock/opencryptoki/swtok /var/lib/opencryptoki/swtok/TOK_OBJ',
    // Newer ones give their rights up for a user that the package makes, and then leave the foreground.
    'getent passwd pkcsslotd >/dev/null || exec pkcsslotd -f',
    'chown pkcsslotd:pkcs11 /run/opencryptoki',
    'chown -R root:pkcs11 /run/lock/opencryptoki /var/lib/opencryptoki',
    'chmod -R 0770 /run/lock/opencryptoki /var/lib/opencryptoki',
    // What the kernel does at a parent's end is forgotten with the old user.
    'exec setpriv --reuid=pkcsslotd --regid=pkcs11 --init-groups --pdeathsig=TERM pkcsslotd -f',
  ].join('\n');

/**
 * openCryptoki's software token. Every process that loads the module must be started behind `wrap`, which enters the
 * namespaces. Needs root, as mounting does.
 */
export async function makeOpenCryptokiHsm(): Promise<Hsm> {
  if (!existsSync(module)) throw new Error('openCryptoki is missing: apt-get install opencryptoki');
  const directory = mkdtempSync(path.join(tmpdir(), 'ock-'));
  const etc = path.join(directory, 'etc');
  mkdirSync(etc);
  writeFileSync(
    path.join(etc, 'opencryptoki.conf'),
    'version opencryptoki-3.1\nslot 0\n{\nstdll = libpkcs11_sw.so\n}\n',
  );
  // Newer ones do not start without the package's own.
  const strength = '/etc/opencryptoki/strength.conf';
  if (existsSync(strength)) copyFileSync(strength, path.join(etc, 'strength.conf'));
  const command = ['unshare', '--mount', '--ipc', 'sh', '-c', setUp(etc)];
  const sockets = ['pkcsslotd.socket', 'opencryptoki/pkcsslotd.socket'];
  const daemon = await startDaemon(command, (pid) =>
    sockets.some((socket) => existsSync(`/proc/${pid}/root/run/${socket}`)),
  );
  const base = {
    name: 'opencryptoki',
    module,
    environment: {},
    wrap: ['nsenter', '--wd=.', '--root', '--mount', '--ipc', `--target=${daemon.pid}`, '--'],
    directory,
    label: 'credhub',
    pin: '824713',
    soPin: '58293041',
  } as const;
  const cleanup = async (): Promise<void> => {
    await daemon.stop();
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    // Until it is changed, the security officer's PIN is known to everybody.
    const init = { label: base.label, soPin: base.soPin, pin: base.pin, firstSoPin: '87654321', changeUserPin: true };
    const answer = await provision(base, { initToken: init });
    return { ...base, ...answer, ...hsmMethods(base), cleanup };
  } catch (error) {
    await cleanup();
    throw error;
  }
}
