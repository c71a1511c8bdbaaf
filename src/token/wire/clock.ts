/**
 * Both processes read CLOCK_MONOTONIC, unlike `performance.now()`, which counts from each process's own start: so a moment
 * can travel in a frame, and time that a frame spent in the socket counts. All in milliseconds.
 */
const START = Number(process.hrtime.bigint()) / 1e6 - performance.now();

/** A moment of `performance.now()` as CLOCK_MONOTONIC has it. */
export const toMonotonic = (moment: number): number => START + moment;

export const monotonicMs = (): number => toMonotonic(performance.now());
