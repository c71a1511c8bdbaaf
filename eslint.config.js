import tseslint from 'typescript-eslint';

/** Strict type-checked lint, and the rooms of src/ with their doors: who may know which library. */
const ROOM_OF = { pkcs11js: 'token', '@grpc/grpc-js': 'api', 'prom-client': 'metrics' };
const ROOMS = Object.values(ROOM_OF);
const allBut = (room) => [
  'error',
  {
    paths: Object.entries(ROOM_OF)
      .filter(([, owner]) => owner !== room)
      .map(([name, owner]) => ({ name, message: `Only src/${owner} knows ${name}.` })),
  },
];

export default tseslint.config(
  {
    ignores: [
      'dist/**',
      '.dev/**',
      '.release/**',
      '**/target/**',
      '**/*.mjs',
      '**/*.cjs',
      'eslint.config.js',
      'node_modules/**',
    ],
  },
  ...tseslint.configs.strictTypeChecked,
  ...tseslint.configs.stylisticTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
      eqeqeq: 'error',
    },
  },
  {
    files: ['src/**/*.ts'],
    ignores: ROOMS.map((room) => `src/${room}/**`),
    rules: { 'no-restricted-imports': allBut(undefined) },
  },
  ...ROOMS.map((room) => ({
    files: [`src/${room}/**/*.ts`],
    rules: { 'no-restricted-imports': allBut(room) },
  })),
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: ['test', 'describe', 'it', 'suite'].map((name) => ({
            from: 'package',
            package: 'node:test',
            name,
          })),
        },
      ],
    },
  },
);
