import { checkConfig, ConfigError } from '../../config/index.ts';
import { EXIT, type Invocation } from '../command.ts';

export function run({ configFile, json, print, printJson }: Invocation): Promise<number> {
  const { problems: faults, contradictions, warnings } = checkConfig(configFile);
  const problems = [...faults, ...contradictions];
  const ok = problems.length === 0;
  if (json) printJson({ file: configFile, ok, problems, warnings });
  else print(ok ? `${configFile}: good` : new ConfigError(configFile, problems).message);
  if (!json) for (const warning of warnings) print(`  warning: ${warning}`);
  return Promise.resolve(ok ? EXIT.ok : EXIT.config);
}
