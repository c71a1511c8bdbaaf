import { loadavg, availableParallelism } from 'node:os';
import type { Process } from './processes.ts';

/** From here on a host counts as slow: a program waits twice as long for a processor as it works. */
const SLOW = 3;

/**
 * How slow this host is for a program that has work to do: how many times longer it takes than on an idle host. 1 where
 * the kernel does not tell (proc(5), schedstat: nanoseconds on a processor, nanoseconds of waiting for one).
 */
export function slowness(self: Process): number {
  const spent = self.scheduled;
  if (spent === undefined || spent.ranMs <= 0) return 1;
  return (spent.ranMs + spent.waitedMs) / spent.ranMs;
}

export const isSlow = (factor: number): boolean => factor >= SLOW;

/** "5 times slower than an idle one, load 18.2 on 2 processors". */
export function paceInWords(factor: number): string {
  const load = Math.round((loadavg()[0] ?? 0) * 10) / 10;
  return `${Math.round(factor)} times slower than an idle one, load ${load} on ${availableParallelism()} processors`;
}
