import { FAILURES } from '../errors/index.ts';
import type { CallObserver, FinishedCall } from '../api/index.ts';
import { Latencies } from './latencies.ts';
import type { RecentError, RecentReport, RecentWindow } from './types.ts';

const MINUTE_MS = 60_000;
/** Whole minutes kept beside the one that runs. */
const MINUTES = 60;
/** Key ids kept for each code and minute: a ciphertext names any, so their number is anybody's. */
const KEY_IDS = 8;
const FOREIGN: string = FAILURES['foreign-ciphertext'].code;
const METHODS: ReadonlySet<string> = new Set(['Encrypt', 'Decrypt']);

/** How often one code, and about which keys. */
class Failed {
  count = 0;
  readonly keyIds = new Set<string>();

  add(count: number, keyIds: Iterable<string>): void {
    this.count += count;
    for (const keyId of keyIds) if (this.keyIds.size < KEY_IDS) this.keyIds.add(keyId);
  }
}

interface Minute {
  /** Minutes since the clock's zero; -1 for one that holds nothing. */
  number: number;
  requests: number;
  /** The program's own codes: a few dozen at most. */
  readonly errors: Map<string, Failed>;
  foreign: number;
  readonly latencies: Latencies;
}

/** A ring of one-minute buckets: its memory is bounded (40 kB), an entry costs well under a microsecond. */
export class RecentCalls implements CallObserver {
  readonly #now: () => number;
  readonly #started: number;
  readonly #ring: readonly Minute[] = Array.from({ length: MINUTES + 1 }, () => ({
    number: -1,
    requests: 0,
    errors: new Map<string, Failed>(),
    foreign: 0,
    latencies: new Latencies(),
  }));

  /** @param now - milliseconds of a clock that is never set back. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#started = now();
  }

  finished({ method, status, code, durationMs, keyId }: FinishedCall): void {
    if (!METHODS.has(method)) return;
    const minute = this.#minute();
    minute.requests++;
    minute.latencies.add(durationMs);
    if (code === FOREIGN) minute.foreign++;
    else if (status !== 'OK') entry(minute.errors, code ?? status).add(1, keyId === undefined ? [] : [keyId]);
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
      minute.foreign = 0;
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
    const errors = new Map<string, Failed>();
    for (const minute of within) {
      latencies.addAll(minute.latencies);
      for (const [code, { count, keyIds }] of minute.errors) entry(errors, code).add(count, keyIds);
    }
    const foreign = within.reduce((sum, minute) => sum + minute.foreign, 0);
    const errorCodes = [...errors]
      .map(([code, { count, keyIds }]): RecentError => ({
        code,
        count,
        ...(keyIds.size === 0 ? {} : { keyIds: [...keyIds] }),
      }))
      .sort((a, b) => b.count - a.count);
    const p50 = latencies.quantile(0.5);
    const p99 = latencies.quantile(0.99);
    return {
      minutes: Math.min(minutes, Math.max(1, Math.ceil((now - this.#started) / MINUTE_MS))),
      requests: within.reduce((sum, { requests }) => sum + requests, 0),
      errors: errorCodes.reduce((sum, { count }) => sum + count, 0),
      errorCodes,
      ...(foreign === 0 ? {} : { foreign }),
      ...(p50 === undefined || p99 === undefined
        ? {}
        : { p50Ms: rounded(p50), p99Ms: rounded(p99), maxMs: rounded(latencies.max) }),
    };
  }
}

const rounded = (milliseconds: number): number =>
  milliseconds < 10 ? Math.round(milliseconds * 10) / 10 : Math.round(milliseconds);

function entry(errors: Map<string, Failed>, code: string): Failed {
  const known = errors.get(code);
  if (known !== undefined) return known;
  const failed = new Failed();
  errors.set(code, failed);
  return failed;
}
