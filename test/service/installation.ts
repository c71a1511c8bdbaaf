/** A directory with everything that the program needs to serve on a SoftHSM2 token of its own. */
import { rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { stringify } from 'yaml';
import { Fixture, type Raw } from '../config/fixtures.ts';
import { makeSoftHsm, type Hsm } from '../hsm/index.ts';

export interface Installation {
  readonly fixture: Fixture;
  readonly hsm: Hsm;
  readonly config: string;
  readonly healthPort: number;
  /** Writes the configuration anew; without a change as it was at first. */
  configure(change?: (raw: Raw) => void): void;
  cleanup(): Promise<void>;
}

/** Listeners credhub (TLS) and kubernetes; keys key-2026 (active) and key-2024 (decrypt), both on the token. */
export async function makeInstallation(options: { readonly pin?: string } = {}): Promise<Installation> {
  const fixture = new Fixture();
  const hsm = await makeSoftHsm(options);
  await hsm.makeKeys({ 'key-2026': {}, 'key-2024': {} });
  fixture.write('pin', hsm.pin);
  const healthPort = await freePort();
  const configure = (change: (raw: Raw) => void = () => undefined): void => {
    const raw: Raw = fixture.good();
    Object.assign(raw.token, {
      module: hsm.module,
      partition: { label: hsm.label },
      environment: hsm.environment,
      sessions: 4,
    });
    Object.assign(raw, { health: { port: healthPort }, limits: { shutdown: '3s' } });
    change(raw);
    fixture.write('kms-plugin.yml', stringify(raw));
  };
  configure();
  const cleanup = async (): Promise<void> => {
    await hsm.cleanup();
    rmSync(fixture.directory, { recursive: true });
  };
  return { fixture, hsm, config: fixture.at('kms-plugin.yml'), healthPort, configure, cleanup };
}

export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => probe.once('listening', resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
