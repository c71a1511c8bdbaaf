import { execFile } from 'node:child_process';
import { closeSync, openSync, readSync } from 'node:fs';

/** glibc's dynamic linker on x86-64; ldd itself is a shell script that calls it. */
const LINKER = '/lib64/ld-linux-x86-64.so.2';
const ELF_MAGIC = 0x7f454c46;
const CLASS_64 = 2;
/** ET_DYN, and EM_X86_64 (elf(5)). */
const SHARED_OBJECT = 3;
const X86_64 = 62;

/** What is wrong with a file as a shared library for this machine, from its first bytes; undefined when nothing. */
export function elfTrouble(file: string): string | undefined {
  const header = Buffer.alloc(20);
  const descriptor = openSync(file, 'r');
  try {
    readSync(descriptor, header, 0, header.length, 0);
  } finally {
    closeSync(descriptor);
  }
  if (header.readUInt32BE(0) !== ELF_MAGIC) return 'is no shared library (no ELF file)';
  if (header[4] !== CLASS_64) return 'is a 32-bit library';
  if (header.readUInt16LE(18) !== X86_64) return 'is a library for another kind of processor';
  return header.readUInt16LE(16) === SHARED_OBJECT ? undefined : 'is no shared library (another kind of ELF file)';
}

/**
 * What the dynamic linker lacks to load a library: names of libraries, or a symbol version. A child lists them, which runs
 * none of the library's code. Undefined when the linker cannot be asked.
 */
export function missingLibraries(
  file: string,
  environment: Readonly<Record<string, string>>,
  withinMs: number,
): Promise<readonly string[] | undefined> {
  return new Promise((resolve) => {
    execFile(
      LINKER,
      ['--list', file],
      {
        env: { ...environment },
        timeout: Math.max(1, Math.round(withinMs)),
        killSignal: 'SIGKILL',
        maxBuffer: 1 << 20,
        encoding: 'utf8',
      },
      (error, stdout, stderr) => {
        if (error !== null && (error.killed === true || error.code === 'ENOENT')) {
          resolve(undefined);
          return;
        }
        const absent = [...stdout.matchAll(/^\s*(\S+) => not found/gm)].map(([, name]) => name ?? '');
        const versions = [...`${stdout}\n${stderr}`.matchAll(/version `([^']+)' not found/g)].map(
          ([, name]) => name ?? '',
        );
        // With a library missing at the top the linker itself may end with a message in place of a list.
        const refused = /error while loading shared libraries: (\S+): cannot open/.exec(stderr)?.[1];
        resolve([...new Set([...absent, ...versions, ...(refused === undefined ? [] : [refused])])]);
      },
    );
  });
}
