import { LOG_LEVELS } from '../../log/index.ts';
import { EXIT, UsageError, type Invocation } from '../command.ts';
import { milliseconds, moment } from '../format.ts';
import { askRunning } from '../running.ts';

export async function run({ configFile, operands, option, json, print, printJson }: Invocation): Promise<number> {
  const level = LOG_LEVELS.find((each) => each === operands[0]);
  if (level === undefined) throw new UsageError(`the level is one of ${LOG_LEVELS.join(', ')}`);
  const written = option('for');
  const forMs = written === undefined ? undefined : milliseconds(written);
  if (written !== undefined && (forMs === undefined || forMs < 1 || forMs > 86_400_000)) {
    throw new UsageError(`--for is a time such as 30s, 10m or 2h, at most 24h`);
  }
  const report = await askRunning(configFile, (client) => client.setLogLevel(level, forMs));
  if (json) printJson(report);
  else
    print(`log level ${report.level} until ${report.until === undefined ? 'the next restart' : moment(report.until)}`);
  return EXIT.ok;
}
