import { statSync } from 'node:fs';
import type { Facts } from '../facts.ts';
import { failure, ok, warning, type Check, type Finding } from '../types.ts';
import { RELOAD } from '../words.ts';

/** The file itself, and whether the running service has taken it. */
export const configuration: Check = {
  name: 'configuration',
  async run(facts) {
    const { problems: faults, contradictions, warnings } = facts.configCheck;
    const problems = [...faults, ...contradictions];
    return [
      ...(problems.length === 0 ? [ok(`${facts.configFile} has no fault`)] : []),
      ...problems.map(({ property, line, trouble, mend }) =>
        failure(`${property}${line === undefined ? '' : ` (line ${line})`} ${trouble}`, mend),
      ),
      ...warnings.map((text) => {
        // The mend is the last of a warning's clauses.
        const at = text.lastIndexOf(': ');
        return at < 0 ? warning(text, 'look at it') : warning(text.slice(0, at), text.slice(at + 2));
      }),
      ...(await takenOver(facts)),
    ];
  },
};

async function takenOver(facts: Facts): Promise<Finding[]> {
  const service = await facts.service();
  if (service.kind !== 'up' || facts.config === undefined) return [];
  const { started, lastReload, configFile } = service.status;
  if (configFile !== facts.configFile) {
    const seen = `the running service has another configuration, ${configFile}`;
    return [
      failure(seen, `give doctor that one (--config ${configFile}), or stop the service and start it with this one`),
    ];
  }
  if (lastReload?.ok === false) {
    const seen = `the service refused the file at ${lastReload.at} and goes on with an older one: ${lastReload.problems.join('; ')}`;
    return [failure(seen, `the file has no fault now: ${RELOAD}`)];
  }
  const taken = Date.parse(lastReload?.at ?? started);
  const changed = statSync(facts.configFile).mtimeMs;
  const pending = (lastReload?.needsRestart ?? []).map((property) =>
    warning(`${property} has changed in the file, and the running service has the old value`, 'restart the service'),
  );
  if (changed <= taken) return pending;
  const seen = `the file was changed at ${new Date(changed).toISOString()}, after the service read it`;
  return [...pending, warning(seen, `the running service does not know it: ${RELOAD}`)];
}
