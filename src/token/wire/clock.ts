/**
 * Milliseconds of CLOCK_MONOTONIC. Both processes read the same clock, unlike `performance.now()`, which starts with each
 * process: so a moment can travel in a frame, and time that a frame spent in the socket counts.
 */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;
