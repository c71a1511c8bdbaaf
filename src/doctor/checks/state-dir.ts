import { lookThrough, type Facts } from '../facts.ts';
import { failure, ok, unseen, type Check, type Finding } from '../types.ts';
import { AS_OWNER, RESTART } from '../words.ts';

/** state_dir: there, and the plugin's own. Whether others reach it is a matter of access, its room one of disk. */
export const stateDir: Check = {
  name: 'state_dir',
  async run(facts) {
    if (facts.place === undefined) return [unseen('the configuration does not say where it is')];
    const { stateDir: directory } = facts.place;
    const found = lookThrough(directory);
    if (found === undefined) return [absent(facts, directory)];
    const user = (await facts.pluginProcess())?.user ?? process.geteuid?.() ?? 0;
    if (Number(found.uid) === user) return [ok(`${directory} is the plugin's own`)];
    const mend = `chown -R ${user} ${directory}`;
    return [
      failure(
        `${directory} belongs to user ${found.uid}, and the plugin runs as user ${user}`,
        user === process.geteuid?.() ? `${mend}, or ${AS_OWNER}` : mend,
      ),
    ];
  },
};

/** Before the first start there is none; under a service that runs it must not go. */
function absent(facts: Facts, directory: string): Finding {
  const serves = facts.config?.listeners.some(
    ({ endpoint }) => facts.listenersAt(endpoint.kind === 'path' ? endpoint.path : `@${endpoint.name}`).length > 0,
  );
  if (serves !== true) return unseen(`${directory} is not there yet`, 'the first start makes it');
  const mend = `${RESTART}; what it remembered is lost: the PIN is tried once more, keys with create: true may be made again`;
  return failure(`${directory} was removed under the running service`, mend);
}
