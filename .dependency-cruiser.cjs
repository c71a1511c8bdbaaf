/**
 * Which file may import which: the rooms of src/, their order and their doors. docs/design.md says what each room is for.
 * `scripts/check` holds the tree to it; `test/house` shows that each rule fails when it is broken.
 */

/** Lower rooms first: a room imports only from the rows above its own. Rooms of one row do not know each other. */
const ROWS = [
  ['errors', 'version', 'log', 'lock', 'state', 'process', 'random', 'config'],
  ['call', 'socket', 'guard'],
  ['token'],
  ['cipher'],
  ['keyring'],
  ['api'],
  ['audit', 'recent'],
  ['control'],
  ['metrics', 'doctor'],
  ['service'],
  ['cli'],
];

/** The one folder that knows a library. */
const OWNERS = {
  pkcs11js: 'token/pkcs11',
  '@grpc/grpc-js': 'api',
  '@grpc/proto-loader': 'api',
  'prom-client': 'metrics',
};

const rooms = (rows) => rows.flat().join('|');

const upward = ROWS.map((row, index) => ({
  name: `upward-from-${row.join('-')}`,
  comment: 'A room imports from lower rooms only: move what both need down, or hand it over as an argument.',
  severity: 'error',
  from: { path: `^src/(${rooms([row])})/` },
  to: { path: `^src/(${rooms(ROWS.slice(index))})/`, pathNot: '^src/$1/' },
}));

const libraries = Object.entries(OWNERS).map(([name, owner]) => ({
  name: `only-${owner.replace('/', '-')}-knows-${name.replace(/\W+/g, '-')}`,
  comment: `Only src/${owner} knows ${name}.`,
  severity: 'error',
  from: { path: '^src/', pathNot: `^src/${owner}/` },
  to: { path: `node_modules/${name}/` },
}));

module.exports = {
  forbidden: [
    {
      name: 'no-circle',
      comment: 'Files that import each other cannot be read one after the other. Types count too.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'by-the-door',
      comment: 'A room is entered by its index.ts.',
      severity: 'error',
      from: { path: '^src/([^/]+)/' },
      to: { path: '^src/[^/]+/', pathNot: ['^src/$1/', '^src/[^/]+/index\\.ts$'] },
    },
    {
      name: 'no-room-outside-the-rows',
      comment: 'Give a new room its row in .dependency-cruiser.cjs and in docs/design.md.',
      severity: 'error',
      from: {},
      to: { path: '^src/', pathNot: `^src/(${rooms(ROWS)})/` },
    },
    {
      name: 'token-process-apart',
      comment:
        'The plugin process, which the bytes of strangers reach, contains no code that knows the module or the PIN.',
      severity: 'error',
      from: { path: '^src/', pathNot: '^src/token/(process|pkcs11|profiles)/' },
      to: { path: '^src/token/(process|pkcs11|profiles)/' },
    },
    ...upward,
    ...libraries,
  ],
  options: {
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    doNotFollow: { path: 'node_modules' },
  },
};
