import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';

export interface CoreFilePrevention {
  /** True when the process's limit for core files is 0 and its coredump_filter is empty. */
  readonly ok: boolean;
  /** What did not work, in the operator's words. */
  readonly problems: readonly string[];
}

/** Below this a helper that hangs is given up, in milliseconds. */
const HELPER_TIMEOUT_MS = 2000;

/**
 * Sees to it that this process, and every child that it starts from now on, leaves no core file: a core file would hold
 * plaintexts, data keys, the TLS key or the PIN.
 *
 * RLIMIT_CORE is set to 0, soft and hard, by util-linux's prlimit, since Node has no setrlimit (7 ms). Where
 * /proc/sys/kernel/core_pattern is a pipe the kernel ignores the limit (core(5)), so 0 is written into
 * /proc/self/coredump_filter as well: the collector then gets no memory mapping. Both are inherited by children and kept
 * by exec. Never throws: a program without these must still serve, and says what is wrong.
 */
export function preventCoreFiles(): CoreFilePrevention {
  const problems: string[] = [];
  try {
    writeFileSync('/proc/self/coredump_filter', '0');
  } catch (error) {
    problems.push(`cannot write /proc/self/coredump_filter: ${(error as Error).message}`);
  }
  if (coreLimit() !== '0 0') {
    const failure = limitBy('/usr/bin/prlimit') === undefined ? undefined : limitBy('prlimit');
    if (coreLimit() !== '0 0') {
      problems.push(
        `cannot set the limit for core files to 0: ${failure ?? 'prlimit had no effect'}; ` +
          'install util-linux, or start the program with "ulimit -c 0"',
      );
    }
  }
  return { ok: problems.length === 0, problems };
}

/** Soft and hard limit of this process as the kernel shows them, e.g. "0 0". */
function coreLimit(): string | undefined {
  try {
    const row = /^Max core file size\s+(\S+)\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
    return row === null ? undefined : `${row[1]} ${row[2]}`;
  } catch {
    return undefined;
  }
}

function limitBy(program: string): string | undefined {
  const result = spawnSync(program, ['--core=0:0', '--pid', String(process.pid)], {
    timeout: HELPER_TIMEOUT_MS,
    // Nothing else of ours: a vendor's LD_LIBRARY_PATH or LD_PRELOAD is not for this program.
    env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C' },
    stdio: ['ignore', 'ignore', 'pipe'],
    encoding: 'utf8',
  });
  if (result.error !== undefined) return result.error.message;
  return result.status === 0 ? undefined : result.stderr.trim();
}
