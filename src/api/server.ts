import type { LimitsConfig, ListenerConfig } from '../config/index.ts';
import { logVerbosity, setLogVerbosity } from '@grpc/grpc-js';
import type { Log } from '../log/index.ts';
import type { Services } from './connection.ts';
import { Core } from './core.ts';
import { HealthWatchers } from './health.ts';
import { checkGrpc } from './http2.ts';
import { Listener } from './listener.ts';
import { loadServiceDefinitions } from './protos.ts';
import { type Certificate, checkTls, loadCertificate } from './tls.ts';
import type { ApiServer, ApiServerOptions, CallCounts, ListenerReport } from './types.ts';

/** Makes the server; nothing is opened yet. */
export function createApiServer(options: ApiServerOptions): ApiServer {
  return new Server(options);
}

/**
 * What of a new configuration's listeners takes effect only after a restart, one line each in the operator's words.
 * Everything else is taken by `ApiServer.reload`.
 */
export function listenersNeedingRestart(
  before: readonly ListenerConfig[],
  after: readonly ListenerConfig[],
): readonly string[] {
  const added = after.filter(({ name }) => !before.some((old) => old.name === name));
  const lines = added.map(({ name }) => `listener ${name} is new`);
  for (const old of before) {
    const next = after.find(({ name }) => name === old.name);
    if (next === undefined) lines.push(`listener ${old.name} is gone`);
    else {
      if (JSON.stringify(next.endpoint) !== JSON.stringify(old.endpoint))
        lines.push(`endpoint of listener ${old.name}`);
      if (next.mode !== old.mode) lines.push(`mode of listener ${old.name}`);
      if ((next.tls === undefined) !== (old.tls === undefined)) lines.push(`TLS or not of listener ${old.name}`);
    }
  }
  return lines;
}

/** Of the time for shutdown this part is left to tell callers that are still waiting, in milliseconds. */
const FAREWELL_MS = 250;

/** And this part to closing connections by force. */
const FORCE_MS = 50;

class Server implements ApiServer {
  readonly #configs: readonly ListenerConfig[];
  readonly #services: Services;
  readonly #log: Log;
  #listeners: readonly Listener[] = [];
  #shutdown: Promise<void> | undefined;

  constructor(options: ApiServerOptions) {
    const { limits, keyring, log, version, observer } = options;
    checkGrpc();
    checkTls();
    // It writes what clients send to standard error.
    setLogVerbosity(logVerbosity.NONE);
    this.#configs = options.listeners;
    this.#log = log;
    const core = new Core({ limits, keyring, log, version, observer });
    this.#services = { core, watchers: new HealthWatchers(core), definitions: loadServiceDefinitions() };
  }

  async open(): Promise<void> {
    try {
      const certificates = await loadCertificates(this.#configs);
      this.#listeners = this.#configs.map(
        (config, index) => new Listener(config, certificates[index], this.#services, this.#log),
      );
      // One after the other: listeners that share a directory share its lock.
      for (const listener of this.#listeners) await listener.open();
    } catch (error) {
      await this.shutdown(this.#services.core.limits.shutdownMs);
      throw error;
    }
  }

  async reload(configs: readonly ListenerConfig[], limits: LimitsConfig): Promise<void> {
    const pairs = this.#listeners.flatMap((listener) => {
      const config = configs.find(({ name }) => name === listener.config.name);
      return config === undefined ? [] : [{ listener, config }];
    });
    const certificates = await loadCertificates(pairs.map(({ config }) => config));
    for (const [index, { listener, config }] of pairs.entries()) listener.reload(config, certificates[index]);
    this.#services.core.setLimits(limits);
  }

  shutdown(withinMs: number): Promise<void> {
    return (this.#shutdown ??= this.#end(withinMs));
  }

  listeners(): readonly ListenerReport[] {
    return this.#listeners.map((listener) => listener.report());
  }

  standings(): ReturnType<ApiServer['standings']> {
    return this.#listeners.flatMap((listener) => {
      const standing = listener.standing();
      const { name, endpoint } = listener.report();
      return standing === undefined ? [] : [{ name, endpoint, standing }];
    });
  }

  health(): ReturnType<ApiServer['health']> {
    return this.#services.core.health();
  }

  calls(): CallCounts {
    return this.#services.core.counts();
  }

  async #end(withinMs: number): Promise<void> {
    const { core, watchers } = this.#services;
    core.close();
    watchers.close();
    for (const listener of this.#listeners) listener.drain();
    const gone = Promise.all(
      this.#listeners.map(async (listener) => {
        await listener.stopAccepting();
        await listener.empty();
      }),
    );
    const farewell = Math.max(0, withinMs - Math.max(FAREWELL_MS, withinMs / 10));
    const timers = [
      setTimeout(() => core.abortAll(), farewell),
      setTimeout(
        () => {
          for (const listener of this.#listeners) listener.destroy();
        },
        Math.max(0, withinMs - FORCE_MS),
      ),
    ];
    const limit = new Promise<void>((resolve) => {
      timers.push(setTimeout(resolve, withinMs));
    });
    await Promise.race([gone, limit]);
    for (const timer of timers) clearTimeout(timer);
  }
}

function loadCertificates(configs: readonly ListenerConfig[]): Promise<readonly (Certificate | undefined)[]> {
  return Promise.all(configs.map(async ({ tls }) => (tls === undefined ? undefined : await loadCertificate(tls))));
}
