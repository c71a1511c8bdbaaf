import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import path from 'node:path';

const flags = [
  ...['-std=c17', '-D_GNU_SOURCE', '-O2', '-g', '-fPIC', '-shared', '-fvisibility=hidden', '-pthread'],
  ...['-Wall', '-Wextra', '-Werror', '-I/usr/include/p11-kit-1'],
];

/** Compiles the faulty module unless these very sources were compiled before; returns the library's path. */
export function buildFaultyModule(): string {
  const sources = readdirSync(import.meta.dirname)
    .filter((file) => /\.[ch]$/.test(file))
    .sort()
    .map((file) => path.join(import.meta.dirname, file));
  const hash = createHash('sha256').update(flags.join(' '));
  for (const source of sources) hash.update(source).update(readFileSync(source));
  const directory = path.resolve(import.meta.dirname, '../../.dev/faulty');
  const library = path.join(directory, `faulty-${hash.digest('hex').slice(0, 16)}.so`);
  if (existsSync(library)) return library;
  mkdirSync(directory, { recursive: true });
  // Tests run side by side: each compiles under a name of its own.
  const own = `${library}.${process.pid}`;
  execFileSync('gcc', [...flags, '-o', own, ...sources.filter((source) => source.endsWith('.c')), '-ldl'], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  renameSync(own, library);
  return library;
}
