import { Counter, Gauge, type Registry } from 'prom-client';

/** One series of a metric: its labels and its value now. An undefined value leaves the series out. */
export type Row = readonly [labels: Readonly<Record<string, string>>, value: number | undefined];

/** A metric whose series are read at each scrape; those that are not there any more are gone from the page. */
export interface Family<Source> {
  /** By Prometheus' conventions: base units, and _total for counters. */
  readonly name: string;
  readonly type: 'gauge' | 'counter';
  readonly help: string;
  /** Never of a value that a request brings: memory here is bounded by the configuration. */
  readonly labels?: readonly string[];
  rows(source: Source): Iterable<Row>;
}

/** @returns what fills the metric of a registry anew. */
export function register<Source>(registry: Registry, family: Family<Source>): (source: Source) => void {
  const { name, type, help, labels = [] } = family;
  const options = { name, help, labelNames: [...labels], registers: [registry] };
  const metric = type === 'gauge' ? new Gauge(options) : new Counter(options);
  return (source) => {
    metric.reset();
    // Without labels prom-client shows 0 for what was reset, also where nothing is known.
    if (labels.length === 0) metric.remove({});
    for (const [rowLabels, value] of family.rows(source)) {
      if (value !== undefined && Number.isFinite(value)) metric.inc({ ...rowLabels }, value);
    }
  };
}

/** A state as one series for each possible state, 1 for the one that holds. */
export function oneHot<State extends string>(states: readonly State[], now: State): Row[] {
  return states.map((state) => [{ state }, state === now ? 1 : 0]);
}

/** A time of a report (ISO 8601) in seconds since the epoch. */
export function seconds(time: string | undefined): number | undefined {
  return time === undefined ? undefined : Date.parse(time) / 1000;
}
