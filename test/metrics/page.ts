/** Prometheus' text format 0.0.4, as far as tests need to read it. */

export interface Metric {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly series: readonly Series[];
}

export interface Series {
  /** With _bucket, _sum or _count for a histogram. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** @throws Error at a line that makes no sense. */
export function readPage(text: string): ReadonlyMap<string, Metric> {
  const metrics = new Map<string, { name: string; type: string; help: string; series: Series[] }>();
  let current: { name: string; type: string; help: string; series: Series[] } | undefined;
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const help = /^# HELP (\S+) (.+)$/.exec(line);
    const type = /^# TYPE (\S+) (gauge|counter|histogram)$/.exec(line);
    if (help !== null) {
      current = { name: help[1] ?? '', type: '', help: help[2] ?? '', series: [] };
      metrics.set(current.name, current);
    } else if (type !== null && type[1] === current?.name) {
      if (current !== undefined) current.type = type[2] ?? '';
    } else {
      const series = readSeries(line);
      if (current === undefined || !series.name.startsWith(current.name)) throw new Error(`out of place: ${line}`);
      current.series.push(series);
    }
  }
  return metrics;
}

function readSeries(line: string): Series {
  const match = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
  if (match === null) throw new Error(`no series: ${line}`);
  const labels = [...(match[2] ?? '').matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)].map(
    (label) => [label[1] ?? '', label[2] ?? ''] as const,
  );
  return { name: match[1] ?? '', labels: Object.fromEntries(labels), value: Number(match[3]) };
}

/** The value of the one series of that name with these labels; undefined when it is not there. */
export function valueOf(
  page: ReadonlyMap<string, Metric>,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): number | undefined {
  const metric = page.get(name) ?? page.get(name.replace(/_(bucket|sum|count)$/, ''));
  return metric?.series.find(
    (series) =>
      series.name === name && Object.entries(labels).every(([label, value]) => series.labels[label] === value),
  )?.value;
}

/** The row of a metric in docs/monitoring/README.md. */
export function documentedRow({ name, type, help, series }: Metric): string {
  const labels = Object.keys(series[0]?.labels ?? {}).filter((label) => label !== 'le');
  return `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`;
}
