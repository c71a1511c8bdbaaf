/** A running installation whose module misbehaves as told, to seed faults on one by one. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { roundTrip } from '../../src/api/index.ts';
import { withOwnToken } from '../../src/cli/own-keyring.ts';
import { loadConfig, locateService } from '../../src/config/index.ts';
import { ControlClient, type StatusReport } from '../../src/control/index.ts';
import {
  diagnose,
  Facts,
  isSlow,
  SURROUNDINGS,
  type Diagnosis,
  type Line,
  type Surroundings,
} from '../../src/doctor/index.ts';
import { listenerOf, type Raw } from '../config/fixtures.ts';
import { faultyModule, type FaultyModule } from '../module/index.ts';
import { makeInstallation, type Installation } from '../service/installation.ts';
import { program, running, type Watched } from '../service/processes.ts';

/** Long enough for a host that is kept busy. */
const READY_MS = 60_000;

export class Place {
  readonly installation: Installation;
  readonly faulty: FaultyModule;
  #service: Watched | undefined;
  readonly #helpers: ChildProcess[] = [];
  readonly #endings: (() => void)[] = [];

  private constructor(installation: Installation, faulty: FaultyModule) {
    this.installation = installation;
    this.faulty = faulty;
  }

  /** Keys beyond those that the configuration lists at first: some that are unfit to encrypt. */
  static async make(): Promise<Place> {
    const installation = await makeInstallation();
    const { hsm } = installation;
    await hsm.makeKeys({
      loose: { attributes: { CKA_EXTRACTABLE: true, CKA_SENSITIVE: false } },
      silent: { attributes: { CKA_ENCRYPT: false } },
      small: { size: 128 },
      twice: {},
    });
    await hsm.makeKey('twice');
    const place = new Place(installation, faultyModule({ inner: hsm.module, innerEnv: hsm.environment }));
    place.configure();
    return place;
  }

  get service(): Watched {
    if (this.#service === undefined) throw new Error('the service is not running');
    return this.#service;
  }

  at(name: string): string {
    return this.installation.fixture.at(name);
  }

  /** Writes the configuration anew; without a change as it is when all is well. */
  configure(change: (raw: Raw) => void = () => undefined): void {
    this.installation.configure((raw) => {
      Object.assign(raw.token, { module: this.faulty.path, environment: this.faulty.environment });
      // Without patience calls fail at once while the token is away, and doctor need not wait for them.
      Object.assign(listenerOf(raw, 0), { patience: '0s' });
      change(raw);
    });
  }

  start(): void {
    this.#service = program('serve', '--config', this.installation.config);
  }

  async stop(): Promise<void> {
    const service = this.#service;
    this.#service = undefined;
    service?.child.kill('SIGCONT');
    await service?.stop();
  }

  async kill(): Promise<void> {
    const service = this.#service;
    this.#service = undefined;
    service?.kill();
    await service?.ended();
  }

  /** With another configuration from the start on. */
  async restart(change?: (raw: Raw) => void): Promise<void> {
    await this.stop();
    this.configure(change);
    this.start();
    await this.service.said(/^listening$/, READY_MS);
  }

  /** Has the running service take another configuration. */
  async reload(change?: (raw: Raw) => void): Promise<void> {
    this.configure(change);
    const report = await this.control().reload();
    assert.deepEqual(report.problems, []);
  }

  /** The token's connection is lost and made anew; resolves when the plugin has noticed. */
  async newConnection(): Promise<void> {
    this.faulty.loseSessions();
    const [listener] = loadConfig(this.installation.config).listeners;
    if (listener === undefined) throw new Error('no listener');
    await roundTrip(listener, { api: 'v1beta1', plaintext: Buffer.alloc(32), deadlineMs: 1_000 }).catch(
      () => undefined,
    );
  }

  /** As after a crash. */
  async newTokenProcess(): Promise<void> {
    process.kill(await this.tokenPid(), 'SIGKILL');
  }

  async tokenPid(): Promise<number> {
    const { pid } = (await this.status()).token.process;
    if (pid === undefined) throw new Error('there is no token process');
    return pid;
  }

  control(): ControlClient {
    return new ControlClient(locateService(this.installation.config).controlSocket);
  }

  status(): Promise<StatusReport> {
    return this.control().status();
  }

  /** Resolves when the service is in that state of mind. */
  async until(wanted: (status: StatusReport) => boolean): Promise<void> {
    const end = performance.now() + READY_MS;
    for (;;) {
      const status = await this.status().catch(() => undefined);
      if (status !== undefined && wanted(status)) return;
      if (performance.now() > end) throw new Error(`not so: ${JSON.stringify(status?.token ?? 'no answer')}`);
      await sleep(50);
    }
  }

  async well(): Promise<void> {
    await this.until(({ health }) => health.ok);
  }

  async away(): Promise<void> {
    await this.until(({ health }) => !health.ok);
  }

  /** The service's process, undefined when it is not running. */
  pid(): Promise<number | undefined> {
    return this.status().then(
      ({ pid }) => pid,
      () => undefined,
    );
  }

  /** What `kms-plugin doctor` says. */
  async doctor(): Promise<Diagnosis> {
    const { stdout, stderr, status } = await running('doctor', '--json', '--config', this.installation.config);
    const diagnosis = JSON.parse(stdout) as Diagnosis;
    assert.equal(stderr, '');
    assert.equal(status, diagnosis.verdict === 'failure' ? 1 : 0);
    return diagnosis;
  }

  /** The same in this process, where doctor looks elsewhere. */
  doctorAround(around: Partial<Surroundings>): Promise<Diagnosis> {
    return diagnose(new Facts(this.installation.config, { ...SURROUNDINGS, withOwnToken, ...around }, 4_300, 24_000));
  }

  /** Another process, ended with the place at the latest. */
  helper(command: string, args: readonly string[], argv0 = command): ChildProcess {
    const child = spawn(command, args, { stdio: 'ignore', argv0 });
    this.#helpers.push(child);
    return child;
  }

  /** To be done when the helpers end. */
  atEnd(end: () => void): void {
    this.#endings.push(end);
  }

  async endHelpers(): Promise<void> {
    for (const end of this.#endings.splice(0)) end();
    for (const helper of this.#helpers.splice(0)) {
      helper.kill('SIGKILL');
      if (helper.exitCode === null && helper.signalCode === null) await once(helper, 'exit');
    }
  }

  write(file: string, contents: string | Uint8Array, mode = 0o600): void {
    writeFileSync(file, contents, { mode });
  }

  async cleanup(): Promise<void> {
    await this.endHelpers();
    await this.kill();
    this.faulty.cleanup();
    await this.installation.cleanup();
  }
}

/** What an operator reads first. */
export function firstFailure({ lines }: Diagnosis): Line | undefined {
  return lines.find(({ verdict }) => verdict === 'failure');
}

/** How long doctor may take, in milliseconds: longer on a host that is slow, as it says itself, and may be late even then. */
export function timeOf({ slowness }: Diagnosis): number {
  return isSlow(slowness) ? 40_000 : 5_000;
}
