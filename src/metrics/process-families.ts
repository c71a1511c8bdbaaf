import { readdirSync, readFileSync } from 'node:fs';
import type { Family } from './family.ts';
import type { Snapshot } from './snapshot.ts';

/** Linux on x86_64: USER_HZ, and bytes of a page (proc(5)). */
const TICKS_PER_SECOND = 100;
const PAGE_BYTES = 4096;

/** This process under the names that every Prometheus client uses, and the token process beside it. */
export const PROCESS_FAMILIES: readonly Family<Snapshot>[] = [
  {
    name: 'process_cpu_seconds_total',
    type: 'counter',
    help: 'Processor time of the plugin process.',
    rows: () => {
      const { user, system } = process.cpuUsage();
      return [[{}, (user + system) / 1e6]];
    },
  },
  {
    name: 'process_resident_memory_bytes',
    type: 'gauge',
    help: 'Memory of the plugin process.',
    rows: () => [[{}, process.memoryUsage.rss()]],
  },
  {
    name: 'process_start_time_seconds',
    type: 'gauge',
    help: 'When the plugin process was started.',
    rows: () => [[{}, performance.timeOrigin / 1000]],
  },
  {
    name: 'process_open_fds',
    type: 'gauge',
    help: 'Open file descriptors of the plugin process.',
    rows: () => [[{}, unlessGone(() => readdirSync('/proc/self/fd').length)]],
  },
  {
    name: 'process_max_fds',
    type: 'gauge',
    help: 'File descriptors that the plugin process may have.',
    rows: () => [[{}, unlessGone(fileDescriptorLimit)]],
  },
  {
    name: 'kms_plugin_event_loop_active_seconds_total',
    type: 'counter',
    help: 'Time in which the plugin process was at work and no other call could go on; a rate near 1 is all that it can do.',
    rows: () => [[{}, performance.eventLoopUtilization().active / 1000]],
  },
  {
    name: 'kms_plugin_token_process_cpu_seconds_total',
    type: 'counter',
    help: 'Processor time of the running token process.',
    rows: ({ status }) => [[{}, statOf(status.token.process.pid)?.cpuSeconds]],
  },
  {
    name: 'kms_plugin_token_process_resident_memory_bytes',
    type: 'gauge',
    help: "Memory of the running token process, with the vendor's library in it.",
    rows: ({ status }) => [[{}, statOf(status.token.process.pid)?.residentBytes]],
  },
];

function statOf(pid: number | undefined): { cpuSeconds: number; residentBytes: number } | undefined {
  if (pid === undefined) return undefined;
  return unlessGone(() => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the program's name and may hold anything; the third is the first after its parenthesis.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const field = (number: number): number => Number(fields[number - 3]);
    return { cpuSeconds: (field(14) + field(15)) / TICKS_PER_SECOND, residentBytes: field(24) * PAGE_BYTES };
  });
}

function fileDescriptorLimit(): number {
  return Number(/^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1]);
}

/** A process may end while it is looked at, and descriptors may have run out; neither must spoil the page. */
function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}
