import type { Command } from './command.ts';

const NONE = {} as const;

/** Every verb, in the order of the help. */
export const COMMANDS: readonly Command[] = [
  {
    words: ['serve'],
    operands: [],
    options: NONE,
    summary: 'serve in the foreground, log to standard output',
    load: () => import('./verbs/serve.ts'),
  },
  {
    words: ['check-config'],
    operands: [],
    options: NONE,
    summary: 'check the configuration file, change nothing',
    load: () => import('./verbs/check-config.ts'),
  },
  {
    words: ['status'],
    operands: [],
    options: NONE,
    summary: 'show the running service on one screen',
    examples: ['kms-plugin status', 'kms-plugin status --json'],
    load: () => import('./verbs/status.ts'),
  },
  {
    words: ['doctor'],
    operands: [],
    options: {
      bundle: { type: 'string', hint: 'FILE', help: 'write a support archive without secrets (tar, new file)' },
      log: { type: 'string', hint: 'FILE', help: "the plugin's log, whose last lines go into the archive" },
    },
    summary: 'find out what is wrong, and what to do',
    examples: ['kms-plugin doctor', 'kms-plugin doctor --bundle support.tar --log kms-plugin.log'],
    load: () => import('./verbs/doctor.ts'),
  },
  {
    words: ['roundtrip'],
    operands: [],
    options: {
      listener: { type: 'string', hint: 'NAME', help: 'this listener only (default: each)' },
      api: { type: 'string', hint: 'API', help: 'v1beta1 or v2 only (default: each that it has)' },
      size: { type: 'string', hint: 'BYTES', help: 'size of the random value (default: 32)' },
      show: { type: 'boolean', help: 'show ciphertext and value in hex' },
    },
    summary: 'encrypt and decrypt a random value, as a client would',
    examples: ['kms-plugin roundtrip', 'kms-plugin roundtrip --listener credhub --size 65000'],
    load: () => import('./verbs/roundtrip.ts'),
  },
  {
    words: ['keys', 'list'],
    operands: [],
    options: NONE,
    summary: 'list keys, key ids, uses, and what may be dropped',
    load: () => import('./verbs/keys-list.ts'),
  },
  {
    words: ['keys', 'create'],
    operands: ['LABEL'],
    options: NONE,
    summary: 'make a key that the token lacks',
    examples: ['kms-plugin keys create credhub-2027'],
    load: () => import('./verbs/keys-create.ts'),
  },
  {
    words: ['keys', 'inspect'],
    operands: ['LABEL'],
    options: NONE,
    summary: "show one key's attributes",
    examples: ['kms-plugin keys inspect credhub-2027'],
    load: () => import('./verbs/keys-inspect.ts'),
  },
  {
    words: ['pin'],
    operands: [],
    options: NONE,
    summary: 'show what is remembered of PINs (never a PIN)',
    load: () => import('./verbs/pin.ts'),
  },
  {
    words: ['pin', 'clear'],
    operands: [],
    options: { serial: { type: 'string', hint: 'SERIAL', help: 'of this token only (default: of all)' } },
    summary: 'forget refused PINs, so that the PIN is tried again',
    load: () => import('./verbs/pin-clear.ts'),
  },
  {
    words: ['reload'],
    operands: [],
    options: NONE,
    summary: 'have the running service read its configuration again',
    examples: ['kms-plugin reload'],
    load: () => import('./verbs/reload.ts'),
  },
  {
    words: ['log-level'],
    operands: ['LEVEL'],
    options: { for: { type: 'string', hint: 'TIME', help: 'go back after this time, e.g. 10m' } },
    summary: 'error, warn, info or debug, until the next restart',
    examples: ['kms-plugin log-level debug --for 10m'],
    load: () => import('./verbs/log-level.ts'),
  },
  {
    words: ['version'],
    operands: [],
    options: NONE,
    summary: 'show versions',
    load: () => import('./verbs/version.ts'),
  },
];
