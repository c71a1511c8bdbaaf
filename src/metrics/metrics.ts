import { Registry } from 'prom-client';
import type { CallObserver } from '../api/index.ts';
import type { ListenerConfig } from '../config/index.ts';
import { CallMetrics } from './calls.ts';
import { register } from './family.ts';
import { KEY_FAMILIES } from './key-families.ts';
import { PROCESS_FAMILIES } from './process-families.ts';
import { SERVICE_FAMILIES } from './service-families.ts';
import type { Snapshot } from './snapshot.ts';
import { TOKEN_FAMILIES } from './token-families.ts';

export interface Metrics {
  /** Told of every call. */
  readonly calls: CallObserver;
  /** Prometheus' text format 0.0.4. */
  readonly contentType: string;
  /** The page at this moment. */
  page(snapshot: Snapshot): Promise<string>;
}

/** @param listeners - whose methods are on the page before their first call. */
export function createMetrics(listeners: readonly ListenerConfig[]): Metrics {
  const registry = new Registry();
  const calls = new CallMetrics(registry);
  for (const { name, apis } of listeners) {
    for (const api of apis) for (const method of ['Encrypt', 'Decrypt']) calls.expect(name, api, method);
  }
  const families = [...SERVICE_FAMILIES, ...TOKEN_FAMILIES, ...KEY_FAMILIES, ...PROCESS_FAMILIES];
  const fill = families.map((family) => register(registry, family));
  return {
    calls,
    contentType: registry.contentType,
    page: async (snapshot) => {
      calls.fill();
      for (const each of fill) each(snapshot);
      return `${calls.durations()}\n${await registry.metrics()}`;
    },
  };
}
