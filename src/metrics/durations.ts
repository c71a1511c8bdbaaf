/**
 * Bounds in seconds. An HSM takes 1 to 5 ms a call, over a network up to 50; retries hide an absence for 2 s, and after
 * 10 s every call has ended.
 */
export const LATENCY_BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10];

/** How long calls of one kind took: an entry is two additions, where prom-client's histogram takes half a microsecond. */
export class Durations {
  /** Calls in each bucket, the last one being beyond all bounds. */
  readonly #counts = new Float64Array(LATENCY_BUCKETS.length + 1);
  #sum = 0;

  add(milliseconds: number): void {
    const seconds = milliseconds / 1000;
    let at = 0;
    while (at < LATENCY_BUCKETS.length && seconds > (LATENCY_BUCKETS[at] ?? Infinity)) at++;
    this.#counts[at] = (this.#counts[at] ?? 0) + 1;
    this.#sum += seconds;
  }

  /**
   * The series of a histogram in Prometheus' text format 0.0.4; none before the first call.
   * @param labels - e.g. `api="v2",method="Decrypt"`.
   */
  lines(name: string, labels: string): string[] {
    let total = 0;
    const buckets = [...this.#counts].map((count, at) => {
      total += count;
      return `${name}_bucket{le="${LATENCY_BUCKETS[at] ?? '+Inf'}",${labels}} ${total}`;
    });
    return total === 0 ? [] : [...buckets, `${name}_sum{${labels}} ${this.#sum}`, `${name}_count{${labels}} ${total}`];
  }
}
