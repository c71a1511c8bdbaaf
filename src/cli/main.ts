#!/usr/bin/env node
/** The program: finds the verb, runs it, and turns whatever it throws into a message and an exit status. */
import { parseCommandLine, type Parsed } from './arguments.ts';
import { EXIT, type Invocation, UsageError } from './command.ts';
import { overview, usageOf } from './help.ts';
import { complain, drained, print, usesColour } from './terminal.ts';

async function main(argv: readonly string[]): Promise<number> {
  let parsed: Parsed;
  try {
    parsed = parseCommandLine(argv, process.env);
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    complain(`${error.message}; see kms-plugin --help`);
    return EXIT.usage;
  }
  const { command, wantsHelp, json } = parsed;
  if (command === undefined || wantsHelp) {
    print(command === undefined ? overview() : usageOf(command));
    return EXIT.ok;
  }
  try {
    const verb = await command.load();
    return await verb.run(invocationOf(parsed));
  } catch (error) {
    const { explain } = await import('./explain.ts');
    const { message, exit } = explain(error);
    if (json) print(JSON.stringify({ error: { message, exit } }));
    complain(message);
    return exit;
  }
}

function invocationOf({ operands, values, configFile, json }: Parsed): Invocation {
  return {
    operands,
    option: (name) => (typeof values[name] === 'string' ? values[name] : undefined),
    flag: (name) => values[name] === true,
    configFile,
    json,
    colour: usesColour(),
    print,
    printJson: (value) => print(JSON.stringify(value, undefined, 2)),
    complain,
  };
}

void main(process.argv.slice(2)).then(async (status) => {
  await drained();
  process.exit(status);
});
