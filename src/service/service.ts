import { createApiServer, type ApiServer } from '../api/index.ts';
import { ownCall } from '../call/index.ts';
import type { Config } from '../config/index.ts';
import {
  CLIENT_DEADLINE_MS,
  createControlServer,
  openHealthServer,
  type ControlHandlers,
  type Health,
  type HealthServer,
  type ReloadReport,
  type StatusReport,
} from '../control/index.ts';
import type { Logger } from '../log/index.ts';
import { guarded } from '../guard/index.ts';
import { claimSocket, type SocketClaim } from '../socket/index.ts';
import { clearPins, describePins, type Token } from '../token/index.ts';
import { LevelSwitch } from './log-level.ts';
import { Observation } from './observation.ts';
import type { HsmSide, OwnedKeyring } from './hsm-side.ts';
import { Configuration } from './reload.ts';
import { statusReport } from './status.ts';

/** A little less than a verb waits, so that it hears what went wrong. */
const CALL_MS = CLIENT_DEADLINE_MS - 500;

/** How long `keys list` waits for a search: a token that is away is told by its state. */
const SEARCH_MS = 2_500;

/** Kept back from the time for calls in flight, to close the token and the log in. */
const CLOSING_MS = 500;

export interface ServiceOptions {
  readonly config: Config;
  /** What it serves, and closes at its end. */
  readonly hsm: HsmSide;
  readonly log: Logger;
  readonly version: string;
  /** Beside the configuration's own. */
  readonly warnings: readonly string[];
}

/** The running service: token, keyring, listeners, control socket and health port, put together. */
export class Service {
  readonly #log: Logger;
  readonly #version: string;
  readonly #started = new Date();
  readonly #warnings: readonly string[];
  readonly #configuration: Configuration;
  readonly #level: LevelSwitch;
  readonly #token: Token;
  readonly #keyring: OwnedKeyring;
  readonly #api: ApiServer;
  readonly #observation: Observation;
  #stopWatching = (): void => undefined;
  #health: HealthServer | undefined;
  #control: SocketClaim | undefined;
  #stopping: Promise<void> | undefined;

  /** Creates the rooms; nothing is opened yet. */
  constructor({ config, hsm, log, version, warnings }: ServiceOptions) {
    this.#log = log;
    this.#version = version;
    this.#warnings = warnings;
    this.#configuration = new Configuration(config, log.child('service'));
    this.#level = new LevelSwitch(log, config.log.level);
    const { limits, listeners } = config;
    this.#token = hsm.token;
    this.#keyring = hsm.keyring;
    this.#observation = new Observation(
      {
        token: this.#token,
        keyring: this.#keyring,
        api: () => this.#api,
        config: () => this.#configuration.running,
        status: () => this.#status(),
      },
      log,
    );
    this.#api = createApiServer({
      listeners,
      limits,
      keyring: this.#keyring,
      log: log.child('api'),
      version,
      observer: this.#observation,
    });
  }

  /** Opens the control socket, the health port and the listeners; waits for no HSM. */
  async open(): Promise<void> {
    const { controlSocket, health } = this.#configuration.running;
    this.#health = openHealthServer(
      health,
      {
        live: () => this.#observation.live(),
        ready: () => this.#ready(),
        metrics: () => this.#observation.metrics(),
      },
      this.#log.child('health'),
    );
    const server = createControlServer(this.#handlers(), this.#log.child('control'));
    this.#control = await claimSocket(server, { kind: 'path', path: controlSocket }, { mode: 0o600 });
    await this.#api.open();
    // 0 asks for any free port, and the log tells which.
    if (health.port === 0) await this.#health.tried;
    const port = this.#health.address()?.port ?? health.port;
    this.#log.info('listening', {
      // An operator's names are values, never keys: the log does not print what stands under "plain" or "secret".
      listeners: this.#api.listeners().map(({ name, endpoint }) => ({ name, endpoint })),
      control_socket: controlSocket,
      health: `${health.address}:${port}`,
    });
    // Not before: whoever reads that calls succeed may connect.
    this.#stopWatching = this.#watch();
    for (const { name, apis, tls } of this.#api.listeners()) {
      if (tls || !apis.includes('v1beta1')) continue;
      this.#log.info('KMS v1 (v1beta1) without TLS is for kube-apiserver, where it is deprecated: v2 takes its place', {
        listener: name,
        kind: 'deprecated',
      });
    }
  }

  /** The configuration is read again, and the audit trail's file opened again: it may have been moved away. */
  reload(): Promise<ReloadReport> {
    const { audit } = this.#observation;
    audit.use(this.#configuration.running.auditFile);
    return this.#configuration.reload({ api: this.#api, keyring: this.#keyring, level: this.#level, audit });
  }

  /** No new connections, calls in flight end, everything is closed: within limits.shutdown. Called twice, done once. */
  stop(): Promise<void> {
    this.#stopping ??= this.#close();
    return this.#stopping;
  }

  async #close(): Promise<void> {
    const { shutdownMs } = this.#configuration.running.limits;
    const closingMs = Math.min(CLOSING_MS, shutdownMs / 2);
    await this.#api.shutdown(shutdownMs - closingMs);
    this.#stopWatching();
    const closed = Promise.allSettled([
      this.#control?.release(),
      this.#health?.close(),
      this.#keyring.close(),
      this.#observation.close(closingMs / 2),
    ]);
    await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, closingMs).unref())]);
  }

  #ready(): Health {
    if (this.#stopping !== undefined) return { ok: false, reason: 'the service is shutting down' };
    return this.#observation.ready();
  }

  /** One line for each change between ready and not ready; why it is not, the rooms have said. */
  #watch(): () => void {
    let was = false;
    const look = guarded(this.#log, 'telling whether calls succeed', () => {
      const { ok, reason, activeKeyId } = this.#keyring.health();
      if (ok === was) return;
      was = ok;
      if (ok) this.#log.info('ready: calls succeed', { keyId: activeKeyId });
      else this.#log.warn('not ready: calls fail or wait', { kind: 'not-ready', reason });
    });
    look();
    return this.#keyring.onChange(look);
  }

  #status(): StatusReport {
    return statusReport({
      version: this.#version,
      started: this.#started,
      config: this.#configuration.running,
      logLevel: this.#log.level,
      keyring: this.#keyring,
      token: this.#token,
      api: this.#api,
      recent: this.#observation.recent.report(),
      lastReload: this.#configuration.lastReload,
      warnings: [...this.#warnings, ...this.#keyring.warnings(), ...this.#observation.audit.warnings()],
    });
  }

  #handlers(): ControlHandlers {
    const { stateDir } = this.#configuration.running;
    return {
      status: () => this.#status(),
      keys: () => this.#keyring.searchedKeys(ownCall(SEARCH_MS)),
      createKey: async (label) => {
        const key = await this.#keyring.createKey(label, ownCall(CALL_MS));
        return { label, listed: this.#configuration.running.keys.some((each) => each.label === label), key };
      },
      inspectKey: (label) => this.#keyring.inspect(label, ownCall(CALL_MS)),
      setLogLevel: (level, forMs) => this.#level.set(level, forMs),
      pins: () => Promise.resolve(describePins(stateDir)),
      clearPins: async (serial) => {
        const forgotten = await clearPins(stateDir, serial);
        this.#log.info('PIN memory cleared by an operator', { serial: serial ?? 'all', forgotten });
        this.#token.reconnect();
        return { forgotten };
      },
      reload: () => this.reload(),
    };
  }
}
