import tseslint from 'typescript-eslint';

/** Strict type-checked lint, and the rooms of src/ with their doors: who may know pkcs11js and gRPC. */
const onlyIn = (what, room) => ({
  paths: [{ name: what, message: `Only src/${room} knows ${what}.` }],
});

export default tseslint.config(
  { ignores: ['dist/**', '.dev/**', '**/target/**', '**/*.mjs', '**/*.cjs', 'eslint.config.js', 'node_modules/**'] },
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
    ignores: ['src/token/**', 'src/api/**'],
    rules: {
      'no-restricted-imports': [
        'error',
        { paths: [...onlyIn('pkcs11js', 'token').paths, ...onlyIn('@grpc/grpc-js', 'api').paths] },
      ],
    },
  },
  {
    files: ['src/api/**/*.ts'],
    rules: { 'no-restricted-imports': ['error', onlyIn('pkcs11js', 'token')] },
  },
  {
    files: ['src/token/**/*.ts'],
    rules: { 'no-restricted-imports': ['error', onlyIn('@grpc/grpc-js', 'api')] },
  },
  {
    files: ['test/**/*.ts', 'bench/**/*.ts'],
    rules: {
      '@typescript-eslint/no-floating-promises': ['error', { allowForKnownSafeCalls: ['test', 'describe', 'it', 'suite'].map((name) => ({ from: 'package', package: 'node:test', name })) }],
    },
  },
);
