import path from 'node:path';
import type { LimitsConfig } from '../../config/index.ts';
import { readText, type Process } from '../look/processes.ts';
import { failure, ok, unseen, warning, type Check, type Finding } from '../types.ts';
import { AS_OWNER, size } from '../words.ts';

/** Descriptors beyond one for each connection: sockets, files, the module's own. */
const SPARE_DESCRIPTORS = 64;
/** Share of a limit from which it is worth a warning, and from which it is a failure. */
const HIGH = 0.8;
const FULL = 0.95;

/** What the container or the service manager allows the two processes. */
export const limits: Check = {
  name: 'limits',
  async run(facts) {
    const plugin = await facts.pluginProcess();
    const service = await facts.service();
    if (plugin === undefined || service.kind === 'down') return [unseen('the service is not running')];
    if (plugin.limit('Max open files') === undefined)
      return [unseen(`this user may not look at process ${plugin.pid}`, AS_OWNER)];
    const token = await facts.tokenProcess();
    const findings = [
      ...descriptors(plugin, facts.config?.limits),
      ...cores(plugin, 'plugin process'),
      ...(token === undefined ? [] : cores(token, 'token process')),
      ...memory(plugin, token, facts.around.cgroup),
    ];
    return findings.length > 0 ? findings : [unseen('nothing is told of the limits', AS_OWNER)];
  },
};

function descriptors(process: Process, settings: LimitsConfig | undefined): Finding[] {
  const limit = process.limit('Max open files') ?? Infinity;
  const used = process.descriptors;
  const needed = (settings?.connections ?? 0) + SPARE_DESCRIPTORS;
  const seen = `${used === undefined ? '' : `${used} of `}${limit} descriptors open`;
  const mend = 'raise it (BOSH: the property kms-plugin.open_files; systemd: LimitNOFILE)';
  if (limit < needed)
    return [failure(`the limit of ${limit} open files is too low for limits.connections (${needed} are needed)`, mend)];
  if (used !== undefined && used > limit * FULL) return [failure(`${seen}: new connections fail`, mend)];
  if (used !== undefined && used > limit * HIGH) return [warning(seen, mend)];
  return [ok(seen)];
}

/** A core file would hold values, and that of the token process the PIN. */
function cores(process: Process, what: string): Finding[] {
  const limit = process.limit('Max core file size');
  const filter = process.read('coredump_filter')?.trim();
  const piped = filter !== undefined && !/^0*$/.test(filter);
  if (limit === 0 && !piped) return [];
  return [
    failure(
      `a core file of the ${what} can be written (limit ${limit}, coredump_filter ${filter ?? '?'}): it would hold secrets`,
      'start it with ulimit -c 0 (BOSH: limits.core_file_size), and see in its log why it could not do so itself',
    ),
  ];
}

/** The page cache that can be given back is no one's need: the kernel takes it before it ends anything (as kubelet counts). */
function memory(plugin: Process, token: Process | undefined, cgroup: string): Finding[] {
  const group = memoryGroup(plugin, cgroup);
  const own = ownMemory(plugin, token);
  if (group === undefined)
    return [ok(own === undefined ? 'no memory limit is visible' : `${own}; no limit is visible`)];
  const { limit, used, killed } = group;
  const mend = 'raise it (BOSH: the property kms-plugin.memory_limit; Kubernetes: resources.limits.memory)';
  const all = limit === Infinity ? `${size(used)} of memory, no limit` : `${size(used)} of ${size(limit)} memory`;
  const seen = own === undefined ? all : `${all} (${own})`;
  const findings =
    used > limit * FULL
      ? [failure(`${seen}: the kernel is about to end it`, mend)]
      : used > limit * HIGH
        ? [warning(seen, mend)]
        : [ok(seen)];
  if (killed > 0)
    findings.push(warning(`the kernel has ended processes of this container ${killed} times for want of memory`, mend));
  return findings;
}

/** A limit is shared by all that runs in the container: what of it is the plugin's. */
function ownMemory(plugin: Process, token: Process | undefined): string | undefined {
  const parts = [
    { name: 'plugin process', bytes: plugin.residentBytes },
    { name: 'token process', bytes: token?.residentBytes },
  ].flatMap(({ name, bytes }) => (bytes === undefined ? [] : [`${name} ${size(bytes)}`]));
  return parts.length === 0 ? undefined : parts.join(', ');
}

interface MemoryGroup {
  readonly limit: number;
  /** Without page cache that can be given back. */
  readonly used: number;
  readonly killed: number;
}

/** cgroup v2 (one hierarchy) or v1 (one for memory); inside a container its own group is the root. */
function memoryGroup(process: Process, cgroup: string): MemoryGroup | undefined {
  const lines = (process.read('cgroup') ?? '')
    .trim()
    .split('\n')
    .map((line) => line.split(':'));
  const v2 = lines.find(([id]) => id === '0')?.[2] ?? '/';
  const v1 = lines.find(([, controllers = '']) => controllers.split(',').includes('memory'))?.[2];
  for (const directory of [path.join(cgroup, v2), cgroup]) {
    const used = numberIn(path.join(directory, 'memory.current'));
    if (used === undefined) continue;
    const killed = /^oom_kill (\d+)/m.exec(readText(path.join(directory, 'memory.events')) ?? '')?.[1];
    const cache = statIn(directory, 'inactive_file');
    const limit = numberIn(path.join(directory, 'memory.max')) ?? Infinity;
    return { used: Math.max(0, used - cache), limit, killed: Number(killed ?? 0) };
  }
  if (v1 === undefined) return undefined;
  for (const directory of [path.join(cgroup, 'memory', v1), path.join(cgroup, 'memory')]) {
    const used = numberIn(path.join(directory, 'memory.usage_in_bytes'));
    if (used === undefined) continue;
    const limit = numberIn(path.join(directory, 'memory.limit_in_bytes')) ?? Infinity;
    const killed = /^oom_kill (\d+)/m.exec(readText(path.join(directory, 'memory.oom_control')) ?? '')?.[1];
    // Version 1 tells the largest number of pages for "no limit".
    const cache = statIn(directory, 'total_inactive_file');
    return { used: Math.max(0, used - cache), limit: limit > 2 ** 60 ? Infinity : limit, killed: Number(killed ?? 0) };
  }
  return undefined;
}

function numberIn(file: string): number | undefined {
  const text = readText(file)?.trim();
  return text === undefined || !/^\d+$/.test(text) ? undefined : Number(text);
}

/** A line of memory.stat in bytes; 0 where the kernel does not tell it. */
function statIn(directory: string, name: string): number {
  const text = readText(path.join(directory, 'memory.stat')) ?? '';
  return Number(new RegExp(`^${name} (\\d+)`, 'm').exec(text)?.[1] ?? 0);
}
