import path from 'node:path';
import { parseArgs } from 'node:util';
import { UsageError, type Command, type OptionSpec } from './command.ts';
import { COMMANDS } from './commands.ts';

/**
 * Where the BOSH job has its configuration. The working directory is not looked at: the file names a library to load,
 * and whoever can write to that directory would choose it.
 */
export const DEFAULT_CONFIG = '/var/vcap/jobs/kms-plugin/config/kms-plugin.yml';

const COMMON: Readonly<Record<string, OptionSpec & { readonly short?: string }>> = {
  config: { type: 'string', hint: 'FILE', help: 'configuration file' },
  json: { type: 'boolean', help: 'for machines' },
  help: { type: 'boolean', short: 'h', help: 'show help' },
  version: { type: 'boolean', short: 'v', help: 'show versions' },
};

/** The command line, understood. */
export interface Parsed {
  /** Undefined: the general help is wanted. */
  readonly command: Command | undefined;
  readonly wantsHelp: boolean;
  readonly operands: readonly string[];
  readonly values: Readonly<Record<string, unknown>>;
  readonly configFile: string;
  readonly json: boolean;
}

/** @throws UsageError */
export function parseCommandLine(argv: readonly string[], environment: NodeJS.ProcessEnv): Parsed {
  // First with the options of all verbs, to find the verb among them; then strictly, with its own.
  const every = Object.assign({}, COMMON, ...COMMANDS.map((command) => command.options)) as typeof COMMON;
  const loose = parse(argv, every, false);
  const asksHelp = loose.positionals[0] === 'help';
  const words = asksHelp ? loose.positionals.slice(1).filter((word) => word !== 'help') : loose.positionals;
  const command = words.length === 0 && loose.values['version'] === true ? find(['version']) : find(words);
  if (words.length === 0 && command === undefined) {
    if (!asksHelp && loose.values['help'] !== true) throw new UsageError('a verb is missing');
    return { command, wantsHelp: true, operands: [], values: {}, configFile: '', json: false };
  }
  if (command === undefined) throw new UsageError(unknown(words));
  const wantsHelp = asksHelp || loose.values['help'] === true;
  const { values } = wantsHelp ? loose : parse(argv, { ...COMMON, ...command.options }, true);
  const operands = words.slice(Math.min(command.words.length, words.length));
  if (!wantsHelp && operands.length !== command.operands.length) {
    throw new UsageError(`${command.words.join(' ')} takes ${command.operands.join(', ') || 'no argument'}`);
  }
  const { config } = values;
  const configured = typeof config === 'string' ? config : environment['KMS_PLUGIN_CONFIG'];
  return {
    command,
    wantsHelp,
    operands,
    values,
    configFile: path.resolve(configured ?? DEFAULT_CONFIG),
    json: values['json'] === true,
  };
}

function parse(argv: readonly string[], options: typeof COMMON, strict: boolean) {
  const specs = Object.entries(options).map(([name, { type, short }]) => {
    return [name, { type, ...(short === undefined ? {} : { short }) }] as const;
  });
  try {
    const { values, positionals } = parseArgs({
      args: [...argv],
      options: Object.fromEntries(specs),
      strict,
      allowPositionals: true,
    });
    return { values: values as Readonly<Record<string, unknown>>, positionals };
  } catch (error) {
    throw new UsageError(reworded((error as Error).message));
  }
}

/** Node.js's words for a faulty option, for people: its advice about dashes helps nobody here. */
function reworded(message: string): string {
  const [, option] = /^Unknown option '([^']*)'/.exec(message) ?? [];
  if (option !== undefined) return `there is no option ${option} here`;
  const [, valueless] = /^Option '(--[a-z-]+)[^']*' argument (?:is ambiguous|missing)/.exec(message) ?? [];
  return valueless === undefined ? message : `${valueless} wants a value after it`;
}

/** The verb with the most words that the line begins with. */
function find(words: readonly string[]): Command | undefined {
  return COMMANDS.filter((command) => command.words.every((word, at) => words[at] === word)).toSorted(
    (a, b) => b.words.length - a.words.length,
  )[0];
}

function unknown(words: readonly string[]): string {
  const family = COMMANDS.filter((command) => command.words[0] === words[0]);
  if (family.length > 0)
    return `"${words[0]}" wants one of ${family.map(({ words: [, second] }) => second).join(', ')}`;
  const typed = words[0] ?? '';
  const near = [...new Set(COMMANDS.flatMap(({ words: all }) => all.slice(0, 1)))].filter((verb) =>
    isNear(typed, verb),
  );
  return `there is no verb "${typed}"${near.length === 0 ? '' : `; did you mean ${near.join(' or ')}?`}`;
}

/** Whether a few slips of the fingers lie between the two: letters left out, added, changed or exchanged with their neighbour. */
function isNear(typed: string, verb: string): boolean {
  const most = verb.length < 5 ? 1 : 2;
  if (Math.abs(typed.length - verb.length) > most) return false;
  // Optimal string alignment distance, a row for each letter typed.
  const rows = [Array.from({ length: verb.length + 1 }, (_, column) => column)];
  for (let i = 1; i <= typed.length; i++) {
    const row = [i];
    for (let j = 1; j <= verb.length; j++) {
      const same = typed[i - 1] === verb[j - 1] ? 0 : 1;
      const steps = [at(rows[i - 1], j) + 1, at(row, j - 1) + 1, at(rows[i - 1], j - 1) + same];
      if (typed[i - 1] === verb[j - 2] && typed[i - 2] === verb[j - 1]) steps.push(at(rows[i - 2], j - 2) + 1);
      row.push(Math.min(...steps));
    }
    rows.push(row);
  }
  return at(rows.at(-1), verb.length) <= most;
}

const at = (row: readonly number[] | undefined, column: number): number => row?.[column] ?? Infinity;
