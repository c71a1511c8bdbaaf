// Bundles src/ into dist/: what tests start, what the release ships. Two programs, since the token process must load
// nothing that it does not need: kms-plugin.cjs (the plugin and its verbs) and token-process.cjs (the PKCS#11 side).
import { build } from 'esbuild';
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..');
const out = path.join(root, 'dist');
const staging = path.join(root, `.dist-${process.pid}`);

const entries = {
  'kms-plugin': 'src/cli/main.ts',
  'token-process': 'src/token/process/main.ts',
};

const versionIn = (file) => JSON.parse(readFileSync(path.join(root, file), 'utf8')).version;

await build({
  absWorkingDir: root,
  entryPoints: Object.fromEntries(Object.entries(entries).filter(([, file]) => existsSync(path.join(root, file)))),
  outdir: staging,
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
  // pkcs11js is a native addon: it is found in node_modules beside dist/.
  external: ['pkcs11js'],
  define: {
    'import.meta.dirname': '__dirname',
    'import.meta.filename': '__filename',
    BUILD_VERSIONS: JSON.stringify({
      program: versionIn('package.json'),
      grpc: versionIn('node_modules/@grpc/grpc-js/package.json'),
    }),
  },
  legalComments: 'linked',
  logLevel: 'warning',
});
cpSync(path.join(root, 'src/api/proto'), path.join(staging, 'proto'), { recursive: true });

// Two builds at once (tests, an operator) must not see each other's half.
const old = path.join(root, `.dist-old-${process.pid}`);
mkdirSync(out, { recursive: true });
renameSync(out, old);
renameSync(staging, out);
rmSync(old, { recursive: true, force: true });
