import { Counter, Histogram, type Registry } from 'prom-client';
import type { CallObserver, FinishedCall } from '../api/index.ts';
import { FAILURES } from '../errors/index.ts';

/**
 * Bounds in seconds. An HSM takes 1 to 5 ms a call, over a network up to 50; retries hide an absence for 2 s, and after
 * 10 s every call has ended.
 */
export const LATENCY_BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10];

interface MethodSeries {
  readonly ok: Observe;
  readonly failed: Observe;
  readonly requestBytes: Add;
  readonly responseBytes: Add;
  /** By listener, then by status. */
  readonly ends: Map<string, Map<string, Add>>;
}
interface Observe {
  observe(value: number): void;
}
interface Add {
  inc(value?: number): void;
}

const STATUSES: readonly FinishedCall['status'][] = [
  'OK',
  ...new Set(Object.values(FAILURES).map(({ status }) => status)),
];

/** Streams that last as long as a client likes: they say nothing about how fast calls are. */
const STREAMS = new Set(['Watch']);

/**
 * Counts every call that has ended; about two microseconds each, since the series of each method are looked up by its name
 * and never made again. API, method, listener, status and code are the program's and the configuration's own words.
 */
export class CallMetrics implements CallObserver {
  readonly #calls: Counter<'api' | 'method' | 'listener' | 'status'>;
  readonly #failures: Counter<'code' | 'kind'>;
  readonly #durations: Histogram<'api' | 'method' | 'result'>;
  readonly #requestBytes: Counter<'api' | 'method'>;
  readonly #responseBytes: Counter<'api' | 'method'>;
  readonly #series = new Map<string, Map<string, MethodSeries>>();
  readonly #codes: ReadonlyMap<string, Add>;

  constructor(registry: Registry) {
    const registers = [registry];
    const of = <Label extends string>(name: string, help: string, ...labelNames: Label[]): Counter<Label> =>
      new Counter({ name: `kms_plugin_${name}`, help, labelNames, registers });
    this.#calls = of('calls_total', 'Calls that have ended, by gRPC status.', 'api', 'method', 'listener', 'status');
    this.#failures = of('failures_total', 'Calls that have failed, by code (docs/errors.md).', 'code', 'kind');
    this.#requestBytes = of('request_bytes_total', 'Bytes of values and ciphertexts in requests.', 'api', 'method');
    this.#responseBytes = of('response_bytes_total', 'Bytes of values and ciphertexts in answers.', 'api', 'method');
    this.#durations = new Histogram({
      name: 'kms_plugin_call_duration_seconds',
      help: 'From the arrival of a request to its answer, queue and patience included.',
      labelNames: ['api', 'method', 'result'],
      buckets: LATENCY_BUCKETS,
      registers,
    });
    // Present from the start: a counter that appears with its first failure shows no increase.
    this.#codes = new Map(
      Object.entries(FAILURES).map(([kind, { code }]) => [code, started(this.#failures.labels({ code, kind }))]),
    );
  }

  finished(call: FinishedCall): void {
    const { api, method, status, code } = call;
    const series = this.#seriesOf(api, method);
    this.#end(series, call).inc();
    if (code !== undefined) this.#codes.get(code)?.inc();
    if (!STREAMS.has(method)) (status === 'OK' ? series.ok : series.failed).observe(call.durationMs / 1000);
    if (call.requestBytes > 0) series.requestBytes.inc(call.requestBytes);
    if (call.responseBytes > 0) series.responseBytes.inc(call.responseBytes);
  }

  /** Has a method's series before its first call. */
  expect(listener: string, api: FinishedCall['api'], method: string): void {
    const series = this.#seriesOf(api, method);
    for (const status of STATUSES) this.#end(series, { api, method, listener, status }).inc(0);
  }

  #seriesOf(api: string, method: string): MethodSeries {
    let methods = this.#series.get(api);
    if (methods === undefined) this.#series.set(api, (methods = new Map<string, MethodSeries>()));
    let series = methods.get(method);
    if (series === undefined) methods.set(method, (series = this.#newSeries(api, method)));
    return series;
  }

  #newSeries(api: string, method: string): MethodSeries {
    return {
      ok: this.#durations.labels({ api, method, result: 'ok' }),
      failed: this.#durations.labels({ api, method, result: 'failed' }),
      requestBytes: started(this.#requestBytes.labels({ api, method })),
      responseBytes: started(this.#responseBytes.labels({ api, method })),
      ends: new Map(),
    };
  }

  #end({ ends }: MethodSeries, call: Pick<FinishedCall, 'api' | 'method' | 'listener' | 'status'>): Add {
    const { api, method, listener, status } = call;
    let statuses = ends.get(listener);
    if (statuses === undefined) ends.set(listener, (statuses = new Map<string, Add>()));
    let end = statuses.get(status);
    if (end === undefined) statuses.set(status, (end = this.#calls.labels({ api, method, listener, status })));
    return end;
  }
}

function started(counter: Add): Add {
  counter.inc(0);
  return counter;
}
