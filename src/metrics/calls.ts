import { Histogram, type Registry } from 'prom-client';
import type { CallObserver, FinishedCall } from '../api/index.ts';
import { FAILURES } from '../errors/index.ts';
import { register, type Family, type Row } from './family.ts';

/**
 * Bounds in seconds. An HSM takes 1 to 5 ms a call, over a network up to 50; retries hide an absence for 2 s, and after
 * 10 s every call has ended.
 */
export const LATENCY_BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10];

/** What one method has come to. */
interface Tally {
  readonly api: string;
  readonly method: string;
  readonly ok: Observe;
  readonly failed: Observe;
  requestBytes: number;
  responseBytes: number;
  /** By listener, then by status. */
  readonly ends: Map<string, Map<string, number>>;
}
interface Observe {
  observe(value: number): void;
}

const STATUSES: readonly FinishedCall['status'][] = [
  'OK',
  ...new Set(Object.values(FAILURES).map(({ status }) => status)),
];

/** Streams that last as long as a client likes: they say nothing about how fast calls are. */
const STREAMS = new Set(['Watch']);

/**
 * Counts every call that has ended, in less than a microsecond: numbers are added up here and turned into series at each
 * scrape. API, method, listener, status and code are the program's and the configuration's own words.
 */
export class CallMetrics implements CallObserver {
  readonly #durations: Histogram<'api' | 'method' | 'result'>;
  readonly #tallies = new Map<string, Map<string, Tally>>();
  /** By code; present from the start, since a counter that appears with its first failure shows no increase. */
  readonly #failures = new Map<string, { readonly kind: string; count: number }>(
    Object.entries(FAILURES).map(([kind, { code }]) => [code, { kind, count: 0 }]),
  );
  readonly #fill: readonly ((calls: this) => void)[];

  constructor(registry: Registry) {
    this.#fill = FAMILIES.map((family) => register(registry, family));
    this.#durations = new Histogram({
      name: 'kms_plugin_call_duration_seconds',
      help: 'From the arrival of a request to its answer, queue and patience included.',
      labelNames: ['api', 'method', 'result'],
      buckets: LATENCY_BUCKETS,
      registers: [registry],
    });
  }

  finished(call: FinishedCall): void {
    const tally = this.#tally(call.api, call.method);
    this.#end(tally, call.listener, call.status, 1);
    const failure = call.code === undefined ? undefined : this.#failures.get(call.code);
    if (failure !== undefined) failure.count++;
    if (!STREAMS.has(call.method)) (call.status === 'OK' ? tally.ok : tally.failed).observe(call.durationMs / 1000);
    tally.requestBytes += call.requestBytes;
    tally.responseBytes += call.responseBytes;
  }

  /** Has a method's series before its first call. */
  expect(listener: string, api: FinishedCall['api'], method: string): void {
    const tally = this.#tally(api, method);
    for (const status of STATUSES) this.#end(tally, listener, status, 0);
  }

  /** Brings the registry's counters up to date. */
  fill(): void {
    for (const each of this.#fill) each(this);
  }

  failures(): Row[] {
    return [...this.#failures].map(([code, { kind, count }]) => [{ code, kind }, count]);
  }

  /** The rows of every method. */
  rows(of: (tally: Tally) => Row[]): Row[] {
    return [...this.#tallies.values()].flatMap((methods) => [...methods.values()].flatMap(of));
  }

  #tally(api: string, method: string): Tally {
    let methods = this.#tallies.get(api);
    if (methods === undefined) this.#tallies.set(api, (methods = new Map<string, Tally>()));
    let tally = methods.get(method);
    if (tally === undefined) methods.set(method, (tally = this.#newTally(api, method)));
    return tally;
  }

  #newTally(api: string, method: string): Tally {
    const ok = this.#durations.labels({ api, method, result: 'ok' });
    const failed = this.#durations.labels({ api, method, result: 'failed' });
    return { api, method, ok, failed, requestBytes: 0, responseBytes: 0, ends: new Map() };
  }

  #end({ ends }: Tally, listener: string, status: string, calls: number): void {
    let statuses = ends.get(listener);
    if (statuses === undefined) ends.set(listener, (statuses = new Map<string, number>()));
    statuses.set(status, (statuses.get(status) ?? 0) + calls);
  }
}

const FAMILIES: readonly Family<CallMetrics>[] = [
  {
    name: 'kms_plugin_calls_total',
    type: 'counter',
    help: 'Calls that have ended, by gRPC status.',
    labels: ['api', 'method', 'listener', 'status'],
    rows: (calls) =>
      calls.rows(({ api, method, ends }) =>
        [...ends].flatMap(([listener, statuses]) =>
          [...statuses].map(([status, count]): Row => [{ api, method, listener, status }, count]),
        ),
      ),
  },
  {
    name: 'kms_plugin_failures_total',
    type: 'counter',
    help: 'Calls that have failed, by code (docs/errors.md).',
    labels: ['code', 'kind'],
    rows: (calls) => calls.failures(),
  },
  {
    name: 'kms_plugin_request_bytes_total',
    type: 'counter',
    help: 'Bytes of values and ciphertexts in requests.',
    labels: ['api', 'method'],
    rows: (calls) => calls.rows(({ api, method, requestBytes }) => [[{ api, method }, requestBytes]]),
  },
  {
    name: 'kms_plugin_response_bytes_total',
    type: 'counter',
    help: 'Bytes of values and ciphertexts in answers.',
    labels: ['api', 'method'],
    rows: (calls) => calls.rows(({ api, method, responseBytes }) => [[{ api, method }, responseBytes]]),
  },
];
