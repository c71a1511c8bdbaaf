import { DEFAULT_CONFIG } from './arguments.ts';
import type { Command } from './command.ts';
import { COMMANDS } from './commands.ts';

/** The whole help: fits a screen of 80 columns and 24 lines. */
export function overview(): string {
  const rows = COMMANDS.map((command) => `  ${synopsis(command).padEnd(20)} ${command.summary}`);
  return [
    'kms-plugin VERB [--config FILE] [--json] [options]',
    '',
    ...rows,
    `  ${'help [VERB]'.padEnd(20)} show this, or the options of a verb`,
    '',
    `--config: default $KMS_PLUGIN_CONFIG, else`,
    `  ${DEFAULT_CONFIG}`,
    'Examples: kms-plugin doctor, kms-plugin roundtrip --listener credhub,',
    '          kms-plugin log-level debug --for 10m',
    'Exit status: 0 good, 1 failed, 2 wrong command line, 69 the service does not',
    '  answer, 78 the configuration is faulty.',
  ].join('\n');
}

/** One verb's help. */
export function usageOf(command: Command): string {
  const options = Object.entries(command.options).map(([name, { hint, help }]) => {
    const shown = `--${name}${hint === undefined ? '' : ` ${hint}`}`;
    return `  ${shown.padEnd(20)} ${help}`;
  });
  return [
    `kms-plugin ${synopsis(command)} [--config FILE] [--json]${options.length > 0 ? ' [options]' : ''}`,
    `  ${command.summary}`,
    ...(options.length > 0 ? ['', ...options] : []),
    ...(command.examples === undefined ? [] : ['', 'Examples:', ...command.examples.map((line) => `  ${line}`)]),
  ].join('\n');
}

function synopsis(command: Command): string {
  return [...command.words, ...command.operands].join(' ');
}
