import { randomInt } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startDaemon } from './daemon.ts';
import type { Daemon } from './daemon.ts';
import { hsmMethods, provision, run } from './fixture.ts';
import type { Hsm, KeyOptions } from './fixture.ts';

const module = '/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so';

/**
 * A TPM on two neighbouring TCP ports, for commands and control: its client library takes TCP only. The ports are below
 * those that the kernel gives out; where somebody listens already, others are tried.
 */
async function startTpm(state: string, pidFile: string): Promise<{ readonly port: number; readonly daemon: Daemon }> {
  for (let attempt = 1; ; attempt++) {
    const port = 10_000 + 2 * randomInt(10_000);
    const tpm = ['swtpm', 'socket', '--tpm2', '--tpmstate', `dir=${state}`, '--flags', 'not-need-init,startup-clear'];
    const channels = ['--server', `type=tcp,port=${port}`, '--ctrl', `type=tcp,port=${port + 1}`];
    try {
      const daemon = await startDaemon([...tpm, ...channels, '--pid', `file=${pidFile}`], () => existsSync(pidFile));
      return { port, daemon };
    } catch (error) {
      if (attempt === 5) throw error;
    }
  }
}

const bus = (
  socket: string,
): string => `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=${socket}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>
`;

/**
 * A software TPM 2.0 behind tpm2-pkcs11. A TPM holds only a few contexts, and those of a killed process stay in it; on
 * real machines the kernel's /dev/tpmrm0 tidies up, here the resource manager tpm2-abrmd on a D-Bus of its own does.
 */
export async function makeTpmHsm(): Promise<Hsm> {
  if (!existsSync(module)) throw new Error('tpm2-pkcs11 is missing: apt-get install libtpm2-pkcs11-1');
  const directory = mkdtempSync(path.join(tmpdir(), 'tpm-'));
  const inside = (name: string): string => path.join(directory, name);
  for (const name of ['state', 'store']) mkdirSync(inside(name), { mode: 0o700 });
  writeFileSync(inside('bus.conf'), bus(inside('bus')));
  const daemons: Daemon[] = [];
  const cleanup = async (): Promise<void> => {
    for (const daemon of daemons.splice(0).reverse()) await daemon.stop();
    rmSync(directory, { recursive: true, force: true });
  };
  const client = { DBUS_SESSION_BUS_ADDRESS: `unix:path=${inside('bus')}` };
  const base = {
    name: 'tpm2',
    module,
    environment: {
      ...client,
      TPM2_PKCS11_STORE: inside('store'),
      TPM2_PKCS11_TCTI: 'tabrmd:bus_type=session',
      TPM2TOOLS_TCTI: 'tabrmd:bus_type=session',
      TPM2_PKCS11_BACKEND: 'esysdb',
    },
    wrap: [],
    directory,
    label: 'credhub',
    pin: '824713',
    soPin: '58293041',
  } as const;
  try {
    const tpm = await startTpm(inside('state'), inside('swtpm.pid'));
    daemons.push(tpm.daemon);
    const dbus = ['dbus-daemon', `--config-file=${inside('bus.conf')}`, '--nofork', '--nopidfile'];
    daemons.push(await startDaemon(dbus, () => existsSync(inside('bus'))));
    const manager = ['tpm2-abrmd', '--session', '--allow-root', `--tcti=swtpm:host=127.0.0.1,port=${tpm.port}`];
    daemons.push(await startDaemon(manager, () => answers(base.environment), client));
    const answer = await provision(base, { initToken: { label: base.label, soPin: base.soPin, pin: base.pin } });
    const makeKeys = (keys: Readonly<Record<string, KeyOptions>>): Promise<void> => addKeys(base, keys);
    return {
      ...base,
      ...answer,
      ...hsmMethods(base),
      makeKeys,
      makeKey: (label, options = {}) => makeKeys({ [label]: options }),
      cleanup,
    };
  } catch (error) {
    await cleanup();
    throw error;
  }
}

async function answers(environment: Readonly<Record<string, string>>): Promise<boolean> {
  try {
    await run(['tpm2_getcap', 'properties-fixed'], { environment });
    return true;
  } catch {
    return false;
  }
}

/** tpm2-pkcs11 makes no secret keys through PKCS#11: its own tool does. */
async function addKeys(
  hsm: Pick<Hsm, 'environment' | 'label' | 'pin'>,
  keys: Readonly<Record<string, KeyOptions>>,
): Promise<void> {
  for (const [label, options] of Object.entries(keys)) {
    if (options.value !== undefined || options.attributes !== undefined) {
      throw new Error('tpm2_ptool takes neither key material nor attributes');
    }
    const algorithm = options.generic === true ? 'hmac:sha256' : `aes${options.size ?? 256}`;
    const store = hsm.environment['TPM2_PKCS11_STORE'] ?? '';
    // The tool takes the id as text.
    const id = options.id === undefined ? [] : [`--id=${options.id.toString('latin1')}`];
    const tool = ['tpm2_ptool', 'addkey', `--path=${store}`, `--label=${hsm.label}`, `--userpin=${hsm.pin}`];
    await run([...tool, `--algorithm=${algorithm}`, `--key-label=${label}`, ...id], { environment: hsm.environment });
  }
}
