import { rmSync } from 'node:fs';
import { KmsClient } from '../../api/support/clients.ts';
import { faultyModule, type FaultyModule } from '../../module/index.ts';
import { makeInstallation, type Installation } from '../../service/installation.ts';
import { program, type Watched } from '../../service/processes.ts';
import { ensureBundle } from '../../token/support/bundle.ts';

export type Scheme = Readonly<Record<string, unknown>>;

/** The program as it ships, on SoftHSM2 behind the faulty module, and a client of its kubernetes listener. */
export class Plugin {
  readonly installation: Installation;
  readonly faulty: FaultyModule;
  readonly #clients: KmsClient[] = [];
  service: Watched;

  private constructor(installation: Installation, faulty: FaultyModule, service: Watched) {
    this.installation = installation;
    this.faulty = faulty;
    this.service = service;
  }

  static async start(scheme: Scheme): Promise<Plugin> {
    ensureBundle();
    const installation = await makeInstallation();
    const { module, environment } = installation.hsm;
    const plugin = new Plugin(
      installation,
      faultyModule({ inner: module, innerEnv: environment }),
      undefined as unknown as Watched,
    );
    plugin.configure(scheme);
    await plugin.serve();
    return plugin;
  }

  /** Writes the configuration; `reload` or `restart` makes it count. */
  configure(scheme: Scheme, keys?: readonly object[], retiredKeys: readonly string[] = []): void {
    this.installation.configure((raw) => {
      Object.assign(raw.token, { module: this.faulty.path, environment: this.faulty.environment });
      Object.assign(
        raw,
        { scheme, retired_keys: retiredKeys, log: { level: 'debug' } },
        keys === undefined ? {} : { keys },
      );
      Object.assign(raw['limits'] as object, { hide: '500ms' });
      for (const listener of raw.listeners) listener['patience'] = 0;
    });
  }

  async serve(): Promise<void> {
    this.service = program('serve', '--config', this.installation.config);
    await this.service.said(/^ready/);
  }

  async restart(): Promise<void> {
    await this.service.stop();
    await this.serve();
  }

  /** SIGHUP, and the wait until it counts. */
  async reload(): Promise<void> {
    const taken = () => this.service.lines().filter(({ message }) => message === 'new configuration taken').length;
    const before = taken();
    this.service.child.kill('SIGHUP');
    while (taken() === before) await this.service.said(/./).then(() => new Promise((next) => setTimeout(next, 10)));
  }

  client(): KmsClient {
    const client = new KmsClient(this.installation.fixture.at('run/kubernetes.sock'));
    this.#clients.push(client);
    return client;
  }

  /** C_Encrypt and C_Decrypt so far, the probes' and checks' included. */
  hsmCalls(): number {
    const { calls } = this.faulty.counts();
    return calls.C_Encrypt + calls.C_Decrypt;
  }

  /** Status and body of a health path. */
  async health(name: 'readiness' | 'liveness'): Promise<{ status: number; body: string }> {
    const answer = await fetch(`http://127.0.0.1:${this.installation.healthPort}/healthz/${name}`);
    return { status: answer.status, body: await answer.text() };
  }

  /** Resolves when readiness says so. */
  async ready(): Promise<void> {
    const end = performance.now() + 20_000;
    while ((await this.health('readiness')).status !== 200) {
      if (performance.now() > end) throw new Error(`not ready:\n${this.service.stdout}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.close();
    this.service.kill();
    await this.service.ended();
    this.faulty.cleanup();
    await this.installation.hsm.cleanup();
    rmSync(this.installation.fixture.directory, { recursive: true, force: true });
  }
}
