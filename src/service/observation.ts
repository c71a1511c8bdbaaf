import type { ApiServer, CallObserver, FinishedCall } from '../api/index.ts';
import { AuditTrail } from '../audit/index.ts';
import type { Config } from '../config/index.ts';
import type { Health, StatusReport } from '../control/index.ts';
import type { Logger } from '../log/index.ts';
import { createMetrics, type Metrics } from '../metrics/index.ts';
import { RecentCalls } from '../recent/index.ts';
import type { Token } from '../token/index.ts';
import { versions } from '../version/index.ts';
import type { OwnedKeyring } from './hsm-side.ts';
import { Readiness } from './readiness.ts';
import { socketsReachable, socketsStand } from './sockets.ts';

/** What the running service looks at when it is asked how it fares. */
export interface Observed {
  readonly token: Token;
  readonly keyring: OwnedKeyring;
  api(): Pick<ApiServer, 'standings' | 'health'>;
  config(): Config;
  status(): StatusReport;
}

/** Those who look on: metrics, readiness, the last minutes' figures and the audit trail are told of every call, and are in nobody's way. */
export class Observation implements CallObserver {
  readonly audit: AuditTrail;
  readonly recent = new RecentCalls();
  readonly #observed: Observed;
  readonly #metrics: Metrics;
  readonly #readiness: Readiness;

  constructor(observed: Observed, log: Logger) {
    const { token } = observed;
    const { listeners, auditFile } = observed.config();
    this.#observed = observed;
    this.audit = new AuditTrail(log.child('audit'));
    this.audit.use(auditFile);
    this.#metrics = createMetrics(listeners);
    this.#readiness = new Readiness(
      {
        health: () => {
          const { ok, reason } = observed.api().health();
          return { ok, reason };
        },
        lastGood: () => sinceStart(token.report().lastGood),
        probe: (call) => token.probe(call),
      },
      log.child('health'),
    );
  }

  finished(call: FinishedCall): void {
    this.#metrics.calls.finished(call);
    this.recent.finished(call);
    this.#readiness.finished(call);
    this.audit.finished(call);
  }

  live(): Health {
    return socketsStand(this.#observed.api());
  }

  ready(): Health {
    const calls = this.#readiness.ask();
    return calls.ok ? socketsReachable(this.#observed.api()) : calls;
  }

  /** The page for Prometheus; asks neither the HSM nor waits for it. */
  async metrics(): Promise<{ readonly contentType: string; readonly text: string }> {
    const { keyring } = this.#observed;
    const text = await this.#metrics.page({
      versions: versions(),
      status: this.#observed.status(),
      live: this.live().ok,
      ready: this.ready().ok,
      limits: this.#observed.config().limits,
      dataKeys: keyring.dataKeys(),
      ivCount: (keyId) => keyring.ivCount(keyId),
      probes: this.#readiness.probes,
      audit: this.audit.counts(),
    });
    return { contentType: this.#metrics.contentType, text };
  }

  /** @param milliseconds - for the audit trail's last lines. */
  async close(milliseconds: number): Promise<void> {
    this.#readiness.close();
    await this.audit.close(milliseconds);
  }
}

/** A report's time in `performance.now()` milliseconds: reports are made from that clock, which nobody sets back. */
const sinceStart = (time: string | undefined): number | undefined =>
  time === undefined ? undefined : Date.parse(time) - performance.timeOrigin;
