// Bundles src/ into dist/: what tests start, what the release ships. Three programs, since each must load
// nothing that it does not need: kms-plugin.cjs (the plugin and its verbs), token-process.cjs (the PKCS#11 side) and
// client-process.cjs (one look at a listener, for doctor and roundtrip). Each
// package that they depend on is a file of its own beside them: Node reads a file as a whole before its first line runs, and
// the plugin needs most of these packages later than its own code, or not at all.
import { build } from 'esbuild';
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '..');
const out = path.join(root, 'dist');
const staging = path.join(root, `.dist-${process.pid}`);
const { resolve } = createRequire(path.join(root, 'package.json'));

const jsonIn = (file) => JSON.parse(readFileSync(path.join(root, file), 'utf8'));

// pkcs11js is a native addon: it is found in node_modules beside dist/.
const packages = Object.keys(jsonIn('package.json').dependencies).filter((name) => name !== 'pkcs11js');
const fileOf = (name) => path.basename(name);

const entries = {
  'kms-plugin': 'src/cli/main.ts',
  'token-process': 'src/token/process/main.ts',
  'client-process': 'src/api/apart/main.ts',
  ...Object.fromEntries(packages.map((name) => [fileOf(name), resolve(name)])),
};

const packagesApart = {
  name: 'packages apart',
  setup({ onResolve }) {
    onResolve({ filter: new RegExp(`^(?:${packages.join('|')})$`) }, ({ path: name }) => {
      return { path: `./${fileOf(name)}.cjs`, external: true };
    });
  },
};

await build({
  absWorkingDir: root,
  entryPoints: entries,
  outdir: staging,
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'cjs',
  external: ['pkcs11js'],
  plugins: [packagesApart],
  define: {
    // Without what packages print for those who develop them.
    'process.env.NODE_ENV': '"production"',
    'import.meta.dirname': '__dirname',
    'import.meta.filename': '__filename',
    BUILD_VERSIONS: JSON.stringify({
      program: jsonIn('package.json').version,
      grpc: jsonIn('node_modules/@grpc/grpc-js/package.json').version,
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
