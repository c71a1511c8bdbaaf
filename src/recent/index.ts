/** How calls have fared lately: requests, errors and latencies of the last minutes, for people who look at a screen. */
export { RecentCalls } from './recent-calls.ts';
export type { RecentError, RecentReport, RecentWindow } from './types.ts';
