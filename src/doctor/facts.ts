import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { roundTripApart, RoundTripError, type RoundTrip } from '../api/index.ts';
import { checkConfig, locateService, type ApiName, type Config, type ConfigCheck } from '../config/index.ts';
import type { ListenerConfig, ServicePlace } from '../config/index.ts';
import { ControlClient, ServiceUnavailableError, type StatusReport } from '../control/index.ts';
import type { KeyReport, Keyring, KeyringHealth } from '../keyring/index.ts';
import type { Log } from '../log/index.ts';
import { describePins, type PinRecord, type TokenReport } from '../token/index.ts';
import { lookThrough } from './look/files.ts';
import { connects, socketName, unixListeners, type UnixListener } from './look/listening.ts';
import { isLocked } from './look/locks.ts';
import { isSlow, paceInWords } from './look/pace.ts';
import { allProcesses, Process } from './look/processes.ts';
import type { Surroundings } from './surroundings.ts';

/** The running service's answer on its control socket, or why there is none. */
export type Service =
  | { readonly kind: 'up'; readonly status: StatusReport }
  /** 'slow': no answer in time, on a host so slow that this proves nothing. */
  | { readonly kind: 'down' | 'stuck' | 'slow' | 'forbidden' | 'confused' | 'nowhere'; readonly message: string };

/** The token as the service sees it or, when that is down, as a token process of doctor's own does. */
export type TokenView = SeenToken | { readonly by: 'nobody'; readonly why: string };

export interface SeenToken {
  readonly by: 'service' | 'doctor';
  readonly report: TokenReport;
  readonly health: KeyringHealth;
  readonly keys: readonly KeyReport[];
}

/** The running service may have begun so long ago, in milliseconds, that its token process or sockets are not there yet. */
const BEGIN_MS = 15_000;

/** One value's way through one listener and back. */
export interface Trip {
  readonly listener: ListenerConfig;
  readonly api: ApiName;
  readonly result: RoundTrip | RoundTripError | Error;
}

export type Pins =
  { readonly kind: 'known'; readonly pins: readonly PinRecord[] } | { readonly kind: 'trouble'; readonly why: string };

/** A round trip that ended well, and came back with something else. */
export const WRONG_VALUE = 'another value came back than was encrypted';

/** The service answers from memory: one that takes so long, in milliseconds, on a host that is not slow, does not work. */
const STATUS_MS = 2_000;
/** Longest round trip, in milliseconds. */
const TRIP_MS = 2_500;
/** On a slow host long enough that the plugin itself has judged by then whether its token process answers. */
const SLOW_TRIP_MS = 8_500;
/** A token process that has just begun is given so long, and looked at so often, in milliseconds. */
const START_MS = 1_800;
const ASK_AGAIN_MS = 200;
/** A plugin that has just begun is given so long until it listens, and looked at so often, in milliseconds. */
const OPEN_MS = 1_000;
const LOOK_AGAIN_MS = 50;
/** Kept back for what comes after the slowest look, in milliseconds. */
const SPARE_MS = 500;
/** A token that is away is given so long to come, a ready one to have its keys found, in milliseconds. */
const SETTLE_MS = 1_000;

/**
 * What several checks need to know, each found out once, when first asked for. Nothing here throws or waits beyond the
 * time that doctor has.
 */
export class Facts {
  readonly configFile: string;
  readonly around: Surroundings;
  readonly configCheck: ConfigCheck;
  readonly place: ServicePlace | undefined;
  /** `performance.now()` when it began, and when everything must have ended. */
  readonly began = performance.now();
  readonly ends: number;
  /** How many times slower this host is than an idle one. */
  readonly slowness: number;
  readonly #known = new Map<string, unknown>();

  /** @param withinMs - how long everything may take; on a slow host up to `slowMs`. */
  constructor(configFile: string, around: Surroundings, withinMs: number, slowMs = withinMs) {
    this.configFile = configFile;
    this.around = around;
    this.slowness = around.slowness(new Process(around.proc, process.pid));
    this.ends = this.began + (this.isSlow ? slowMs : withinMs);
    this.configCheck = checkConfig(configFile);
    this.place = placeOf(configFile);
  }

  /** Undefined when it has faults. */
  get config(): Config | undefined {
    return this.configCheck.config;
  }

  get isSlow(): boolean {
    return isSlow(this.slowness);
  }

  /** What takes so long on an idle host, in whole milliseconds, may take so long here. */
  patient(milliseconds: number): number {
    return Math.ceil(Math.min(milliseconds * this.slowness, this.leftMs));
  }

  /** Milliseconds left; what comes afterwards keeps a little. */
  get leftMs(): number {
    return Math.max(200, this.ends - performance.now() - SPARE_MS);
  }

  /**
   * Waits for a plugin that has its lock and listens in a moment: its sockets would count as removed or left over, its calls
   * as failed. A second at most, since they may be gone for good.
   */
  async begun(): Promise<void> {
    const now = performance.now();
    const until = now + Math.min(OPEN_MS * this.slowness, (this.ends - now) / 4);
    const names = (this.config?.listeners ?? []).map(({ endpoint }) => socketName(endpoint));
    if (this.place !== undefined) names.push(this.place.controlSocket);
    while (this.serveLockHeld && performance.now() < until) {
      const answers = await Promise.all(names.map((name) => connects(name, OPEN_MS / 4)));
      if (!answers.some((answer) => answer === 'ENOENT' || answer === 'ECONNREFUSED')) return;
      await sleep(LOOK_AGAIN_MS);
    }
  }

  /** Once its token process, if that has just begun, tells why it fails or that it is well: before that, calls may fail. */
  service(): Promise<Service> {
    return this.#once('service', async (): Promise<Service> => {
      if (this.place === undefined) return { kind: 'nowhere', message: 'the configuration does not say where it is' };
      try {
        return { kind: 'up', status: await this.#settledStatus(await this.#client(STATUS_MS).status()) };
      } catch (error) {
        const { message } = error as Error;
        const kind = error instanceof ServiceUnavailableError ? error.why : 'confused';
        if (kind !== 'stuck' || !this.isSlow || this.#listening()?.stuck !== undefined) return { kind, message };
        return { kind: 'slow', message: `${message}; this host is ${paceInWords(this.slowness)}` };
      }
    });
  }

  /** The running service once more, after a round trip has failed: what is wrong may show only then. */
  serviceAfterTrips(): Promise<Service> {
    return this.#once('service after trips', async (): Promise<Service> => {
      const before = await this.service();
      const trips = await this.trips();
      if (before.kind !== 'up' || !trips.some(({ result }) => result instanceof Error)) return before;
      const again = this.#client(STATUS_MS).status();
      return again.then(
        (status) => ({ kind: 'up', status }),
        () => before,
      );
    });
  }

  token(): Promise<TokenView> {
    return this.#once('token', async (): Promise<TokenView> => {
      const service = await this.serviceAfterTrips();
      if (service.kind === 'up') {
        const { token, health, keys } = service.status;
        return { by: 'service', report: token, health, keys };
      }
      if (service.kind !== 'down') return { by: 'nobody', why: 'the service has the token and does not answer' };
      return this.#ownToken();
    });
  }

  /** None through a service that is down or does not answer. */
  trips(): Promise<readonly Trip[]> {
    return this.#once('trips', async () => {
      const { kind } = await this.service();
      if (kind === 'down' || kind === 'stuck' || kind === 'slow') return [];
      return Promise.all(
        (this.config?.listeners ?? []).flatMap((listener) =>
          listener.apis.map(async (api) => ({ listener, api, result: await this.#trip(listener, api) })),
        ),
      );
    });
  }

  pins(): Pins {
    return this.#once('pins', () => {
      if (this.place === undefined)
        return { kind: 'trouble', why: 'the configuration does not say where state_dir is' };
      try {
        return { kind: 'known', pins: describePins(this.place.stateDir) };
      } catch (error) {
        return { kind: 'trouble', why: (error as Error).message };
      }
    });
  }

  /** Who listens on a Unix socket: a path, or an abstract name with a leading `@`. */
  listenersAt(name: string): readonly UnixListener[] {
    return this.#once(`listening ${name}`, () => unixListeners(this.around.proc, name));
  }

  /** A plugin with this state_dir runs, whether or not it answers: serve.lock is held for its life. */
  get serveLockHeld(): boolean {
    return this.place !== undefined && isLocked(this.around.proc, path.join(this.place.stateDir, 'serve.lock'));
  }

  /** Who holds serve.lock, and so serves or is about to, though it may listen nowhere yet. */
  get lockHolder(): Process | undefined {
    if (this.place === undefined || !this.serveLockHeld) return undefined;
    const file = path.join(this.place.stateDir, 'serve.lock');
    return this.#once('lock holder', () =>
      allProcesses(this.around.proc).find((process) => process.descriptorsOf(file).length > 0),
    );
  }

  /** Whether a plugin that holds its lock is so young that it may not listen yet. */
  get begins(): boolean {
    const age = this.lockHolder?.age(this.around.proc);
    return age !== undefined && age * 1_000 < BEGIN_MS * this.slowness;
  }

  /** The plugin process as this host numbers it: BPM's containers have pid namespaces of their own. */
  async pluginProcess(): Promise<Process | undefined> {
    const listening = this.#listening();
    if (listening !== undefined) return listening;
    const service = await this.service();
    return service.kind === 'up' ? new Process(this.around.proc, service.status.pid) : undefined;
  }

  #listening(): Process | undefined {
    const listeners = this.place === undefined ? [] : this.listenersAt(this.place.controlSocket);
    return listeners.flatMap(({ processes }) => processes)[0];
  }

  async tokenProcess(): Promise<Process | undefined> {
    const service = await this.service();
    const plugin = await this.pluginProcess();
    if (service.kind !== 'up' || plugin === undefined) return undefined;
    const { pid } = service.status.token.process;
    // One that has ended is a zombie for the moment that the plugin takes to hear of it, and has a successor then.
    return allProcesses(this.around.proc).find(
      (process) =>
        process.innerPid === pid &&
        process.field('PPid') === String(plugin.pid) &&
        process.field('State')?.startsWith('Z') !== true,
    );
  }

  #once<T>(name: string, find: () => T): T {
    if (!this.#known.has(name)) this.#known.set(name, find());
    return this.#known.get(name) as T;
  }

  async #settledStatus(first: StatusReport): Promise<StatusReport> {
    const until = performance.now() + Math.min(START_MS * this.slowness, this.leftMs - STATUS_MS);
    let status = first;
    while (isStarting(status.token) && performance.now() < until) {
      await sleep(ASK_AGAIN_MS);
      status = await this.#client(STATUS_MS)
        .status()
        .catch(() => status);
    }
    return status;
  }

  #client(withinMs: number): ControlClient {
    return new ControlClient(this.place?.controlSocket ?? '', this.patient(withinMs));
  }

  async #trip(listener: ListenerConfig, api: ApiName): Promise<Trip['result']> {
    const plaintext = randomBytes(32);
    const deadlineMs = Math.min(this.isSlow ? SLOW_TRIP_MS : TRIP_MS, this.leftMs);
    try {
      const trip = await roundTripApart(listener, { api, plaintext, deadlineMs });
      if (trip.plaintext.equals(plaintext)) return trip;
      return new RoundTripError('Decrypt', 'wrong answer', WRONG_VALUE);
    } catch (error) {
      return error instanceof Error ? error : new Error(String(error));
    }
  }

  /** A token process of our own, if that is safe: it must not cost a login whose outcome nobody could remember. */
  #ownToken(): Promise<TokenView> | TokenView {
    const config = this.config;
    if (config === undefined) return { by: 'nobody', why: 'the service is down and the configuration is at fault' };
    if (this.serveLockHeld) {
      return { by: 'nobody', why: 'a plugin runs and cannot be asked, and doctor logs in nowhere beside it' };
    }
    const stateDir = lookThrough(config.stateDir);
    if (stateDir.kind !== 'there') {
      return { by: 'nobody', why: 'the service is down, and without state_dir nothing may be tried with the PIN' };
    }
    // What another user, root too, writes there the plugin could not open any more.
    if (stateDir.stats.uid !== process.geteuid?.()) {
      return { by: 'nobody', why: `the service is down, and its state_dir belongs to user ${stateDir.stats.uid}` };
    }
    const pins = this.pins();
    if (pins.kind === 'known' && pins.pins.some(({ state }) => state === 'cut-off')) {
      return { by: 'nobody', why: 'the service is down, and a login was cut off, which doctor does not repeat' };
    }
    // Resolved before the process has ended, which it may not do when its module hangs.
    return new Promise((resolve) => {
      this.around
        .withOwnToken(config, SILENT, async ({ token, keyring }) => {
          await settled(keyring, this.leftMs);
          resolve({ by: 'doctor', report: token.report(), health: keyring.health(), keys: keyring.keys() });
        })
        .catch((error: unknown) => {
          const why = `the service is down, and no token process can be started: ${(error as Error).message}`;
          resolve({ by: 'nobody', why });
        });
    });
  }
}

const isStarting = ({ state, reason }: TokenReport): boolean =>
  state === 'starting' || /token process ended|keeps ending/.test(reason);

const nothing = (): void => undefined;
/** What it would log is in the token's report. */
const SILENT: Log = { error: nothing, warn: nothing, info: nothing, debug: nothing };

function placeOf(configFile: string): ServicePlace | undefined {
  try {
    return locateService(configFile);
  } catch {
    return undefined;
  }
}

/** Until the keyring is well, the PIN is refused, or it does not get better. */
function settled(keyring: Keyring, withinMs: number): Promise<void> {
  return new Promise((resolve) => {
    let settling: NodeJS.Timeout | undefined;
    const done = (): void => {
      clearTimeout(all);
      clearTimeout(settling);
      stop();
      resolve();
    };
    const look = (): void => {
      const { ok, availability } = keyring.health();
      if (ok || availability === 'refused') done();
      else if (availability !== 'starting') settling ??= setTimeout(done, SETTLE_MS);
    };
    const all = setTimeout(done, withinMs);
    const stop = keyring.onChange(look);
    look();
  });
}
