/** What Prometheus scrapes: counted call by call, or read from the rooms' reports at each scrape. Alone knows prom-client. */
export { createMetrics, type Metrics } from './metrics.ts';
export type { Snapshot } from './snapshot.ts';
