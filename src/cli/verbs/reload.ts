import { EXIT, type Invocation } from '../command.ts';
import { askRunning } from '../running.ts';

/** Long enough for certificates on a slow disk, and for the reloads before it. Milliseconds. */
const PATIENCE_MS = 30_000;

/**
 * Exit status 0 when all of the file is in force, 1 when a part of it needs a restart, 78 when it is faulty and the old
 * configuration goes on, 69 when the service does not answer.
 */
export async function run({ configFile, json, print, printJson }: Invocation): Promise<number> {
  const report = await askRunning(configFile, (client) => client.reload(), PATIENCE_MS);
  const { ok, taken, needsRestart, warnings, problems } = report;
  if (json) printJson(report);
  else {
    for (const problem of problems) print(`wrong: ${problem}`);
    if (!ok) print('nothing was taken, the old configuration goes on');
    if (taken.length > 0) print(`taken: ${taken.join(', ')}`);
    if (needsRestart.length > 0) print(`only after a restart: ${needsRestart.join(', ')}`);
    for (const warning of warnings) print(`warning: ${warning}`);
    if (ok && taken.length + needsRestart.length === 0) print(`nothing new; ${configFile} is in force`);
  }
  if (!ok) return EXIT.config;
  return needsRestart.length > 0 ? EXIT.failure : EXIT.ok;
}
