import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

export interface Versions {
  /** This program's, from its package.json (semver). */
  readonly program: string;
  readonly grpc: string;
  readonly node: string;
}

/** Put in by scripts/build.mjs; the sources read it from the package.json files. */
declare const BUILD_VERSIONS: { readonly program: string; readonly grpc: string } | undefined;

export function versions(): Versions {
  const build = typeof BUILD_VERSIONS === 'undefined' ? fromSources() : BUILD_VERSIONS;
  return { ...build, node: process.versions.node };
}

function fromSources(): { program: string; grpc: string } {
  const require = createRequire(import.meta.filename);
  return {
    program: versionIn(path.join(import.meta.dirname, '../../package.json')),
    grpc: versionIn(require.resolve('@grpc/grpc-js/package.json')),
  };
}

function versionIn(file: string): string {
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
