import { execFileSync } from 'node:child_process';
import { existsSync, globSync, statSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../../..');

/**
 * Builds dist/ when a source is newer: the token process runs from there. Test files run side by side, so one of them
 * builds, behind a kernel lock, and the others find it done.
 */
export function ensureBundle(): void {
  if (isFresh()) return;
  execFileSync('flock', [path.join(root, 'package.json'), process.execPath, import.meta.filename], {
    stdio: 'inherit',
    env: { ...process.env, NODE_OPTIONS: '' },
  });
}

function isFresh(): boolean {
  const bundle = path.join(root, 'dist/token-process.cjs');
  if (!existsSync(bundle)) return false;
  const built = statSync(bundle).mtimeMs;
  return globSync('src/**/*.{ts,proto}', { cwd: root }).every(
    (file) => statSync(path.join(root, file)).mtimeMs < built,
  );
}

if (process.argv[1] === import.meta.filename && !isFresh()) {
  execFileSync(process.execPath, [path.join(root, 'scripts/build.mjs')], { stdio: 'inherit' });
}
