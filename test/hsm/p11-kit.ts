import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Hsm } from './fixture.ts';

const LIBRARIES = '/usr/lib/x86_64-linux-gnu';

/** A module of p11-kit's in front of a SoftHSM2 token: how it is reached, and its end. */
export interface P11Kit {
  readonly module: string;
  readonly environment: Readonly<Record<string, string>>;
  stop(): void;
}

/** p11-kit's proxy module, in this process; which modules it loads stands in the home directory of who loads it. */
export function p11KitProxy(hsm: Hsm): P11Kit {
  const home = path.join(hsm.directory, 'home');
  const modules = path.join(home, '.config/pkcs11/modules');
  mkdirSync(modules, { recursive: true });
  writeFileSync(path.join(modules, 'softhsm2.module'), `module: ${hsm.module}\n`);
  return {
    module: path.join(LIBRARIES, 'p11-kit-proxy.so'),
    environment: { ...hsm.environment, HOME: home },
    stop: () => undefined,
  };
}

/** p11-kit's client module, which speaks to a server of p11-kit's in another process. */
export async function p11KitClient(hsm: Hsm): Promise<P11Kit> {
  const socket = path.join(hsm.directory, 'p11-kit.sock');
  const server = spawn(
    'p11-kit',
    ['server', '--foreground', '--name', socket, '--provider', hsm.module, `pkcs11:token=${hsm.label}`],
    { env: { ...process.env, ...hsm.environment, XDG_RUNTIME_DIR: hsm.directory }, stdio: 'ignore' },
  );
  const until = performance.now() + 20_000;
  while (!existsSync(socket)) {
    await sleep(50);
    if (server.exitCode !== null || performance.now() > until) throw new Error('p11-kit server does not listen');
  }
  return {
    module: path.join(LIBRARIES, 'pkcs11/p11-kit-client.so'),
    environment: { P11_KIT_SERVER_ADDRESS: `unix:path=${socket}` },
    stop: () => {
      server.kill();
    },
  };
}

/** Client and server of earlier versions than 0.25 pass neither AES-GCM nor AES-CBC on. */
export function p11KitPassesGcm(): boolean {
  const version = execFileSync('dpkg-query', ['-W', '-f', '${Version}', 'p11-kit'], { encoding: 'utf8' });
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(version) ?? [];
  return Number(major) > 0 || Number(minor) >= 25;
}
