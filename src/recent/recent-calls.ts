import type { CallObserver, FinishedCall } from '../api/index.ts';
import { Latencies } from './latencies.ts';
import type { RecentReport, RecentWindow } from './types.ts';

const MINUTE_MS = 60_000;
/** Whole minutes kept beside the one that runs. */
const MINUTES = 60;
const METHODS: ReadonlySet<string> = new Set(['Encrypt', 'Decrypt']);

interface Minute {
  /** Minutes since the clock's zero; -1 for one that holds nothing. */
  number: number;
  requests: number;
  /** The program's own codes: a few dozen at most. */
  readonly errors: Map<string, number>;
  readonly latencies: Latencies;
}

/** A ring of one-minute buckets: its memory is bounded (40 kB), an entry costs well under a microsecond. */
export class RecentCalls implements CallObserver {
  readonly #now: () => number;
  readonly #started: number;
  readonly #ring: readonly Minute[] = Array.from({ length: MINUTES + 1 }, () => ({
    number: -1,
    requests: 0,
    errors: new Map<string, number>(),
    latencies: new Latencies(),
  }));

  /** @param now - milliseconds of a clock that is never set back. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#started = now();
  }

  finished({ method, status, code, durationMs }: FinishedCall): void {
    if (!METHODS.has(method)) return;
    const minute = this.#minute();
    minute.requests++;
    minute.latencies.add(durationMs);
    if (status !== 'OK') minute.errors.set(code ?? status, (minute.errors.get(code ?? status) ?? 0) + 1);
  }

  report(): RecentReport {
    return { last5: this.#window(5), last60: this.#window(60) };
  }

  #minute(): Minute {
    const number = Math.floor(this.#now() / MINUTE_MS);
    const minute = this.#ring[number % this.#ring.length];
    if (minute === undefined) throw new Error('the ring has a place for every minute');
    if (minute.number !== number) {
      minute.number = number;
      minute.requests = 0;
      minute.errors.clear();
      minute.latencies.clear();
    }
    return minute;
  }

  /** The minute that runs and `minutes` whole ones before it: never less than was asked for. */
  #window(minutes: number): RecentWindow {
    const now = this.#now();
    const newest = Math.floor(now / MINUTE_MS);
    const within = this.#ring.filter(({ number }) => number >= 0 && number >= newest - minutes && number <= newest);
    const latencies = new Latencies();
    const errors = new Map<string, number>();
    for (const minute of within) {
      latencies.addAll(minute.latencies);
      for (const [code, count] of minute.errors) errors.set(code, (errors.get(code) ?? 0) + count);
    }
    const errorCodes = [...errors].map(([code, count]) => ({ code, count })).sort((a, b) => b.count - a.count);
    const p50 = latencies.quantile(0.5);
    const p99 = latencies.quantile(0.99);
    return {
      minutes: Math.min(minutes, Math.max(1, Math.ceil((now - this.#started) / MINUTE_MS))),
      requests: within.reduce((sum, { requests }) => sum + requests, 0),
      errors: errorCodes.reduce((sum, { count }) => sum + count, 0),
      errorCodes,
      ...(p50 === undefined || p99 === undefined
        ? {}
        : { p50Ms: rounded(p50), p99Ms: rounded(p99), maxMs: rounded(latencies.max) }),
    };
  }
}

const rounded = (milliseconds: number): number =>
  milliseconds < 10 ? Math.round(milliseconds * 10) / 10 : Math.round(milliseconds);
