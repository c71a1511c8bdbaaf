import type { Registry } from 'prom-client';
import type { CallObserver, FinishedCall } from '../api/index.ts';
import { FAILURES } from '../errors/index.ts';
import { Durations } from './durations.ts';
import { register, type Family, type Row } from './family.ts';

/** What one method has come to. */
interface Tally {
  readonly api: string;
  readonly method: string;
  readonly ok: Durations;
  readonly failed: Durations;
  requestBytes: number;
  responseBytes: number;
  /** By listener, then by status. */
  readonly ends: Map<string, Map<string, number>>;
}

const STATUSES: readonly FinishedCall['status'][] = [
  'OK',
  ...new Set(Object.values(FAILURES).map(({ status }) => status)),
];

const DURATIONS = 'kms_plugin_call_duration_seconds';

/** Streams that last as long as a client likes: they say nothing about how fast calls are. */
const STREAMS = new Set(['Watch']);

/**
 * Counts every call that has ended, in less than a microsecond: numbers are added up here and turned into series at each
 * scrape. API, method, listener, status and code are the program's and the configuration's own words.
 */
export class CallMetrics implements CallObserver {
  readonly #tallies = new Map<string, Map<string, Tally>>();
  /** By code; present from the start, since a counter that appears with its first failure shows no increase. */
  readonly #failures = new Map<string, { readonly kind: string; count: number }>(
    Object.entries(FAILURES).map(([kind, { code }]) => [code, { kind, count: 0 }]),
  );
  readonly #fill: readonly ((calls: this) => void)[];

  constructor(registry: Registry) {
    this.#fill = FAMILIES.map((family) => register(registry, family));
  }

  finished(call: FinishedCall): void {
    const tally = this.#tally(call.api, call.method);
    this.#end(tally, call.listener, call.status, 1);
    const failure = call.code === undefined ? undefined : this.#failures.get(call.code);
    if (failure !== undefined) failure.count++;
    if (!STREAMS.has(call.method)) (call.status === 'OK' ? tally.ok : tally.failed).add(call.durationMs);
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

  /** The histogram of durations, as text: prom-client has none that is filled at the scrape. */
  durations(): string {
    const lines = [...this.#tallies.values()].flatMap((methods) =>
      [...methods.values()].flatMap(({ api, method, ok, failed }) => [
        ...ok.lines(DURATIONS, `api="${api}",method="${method}",result="ok"`),
        ...failed.lines(DURATIONS, `api="${api}",method="${method}",result="failed"`),
      ]),
    );
    const help = 'From the arrival of a request to its answer, queue and patience included.';
    return [`# HELP ${DURATIONS} ${help}`, `# TYPE ${DURATIONS} histogram`, ...lines, ''].join('\n');
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
    return {
      api,
      method,
      ok: new Durations(),
      failed: new Durations(),
      requestBytes: 0,
      responseBytes: 0,
      ends: new Map(),
    };
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
