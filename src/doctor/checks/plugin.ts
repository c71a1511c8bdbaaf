import { versions } from '../../version/index.ts';
import type { Facts } from '../facts.ts';
import { ABOVE, failure, ok, warning, type Check, type Finding } from '../types.ts';
import { AGAIN, age, AS_OWNER, letGoOn, RESTART, START } from '../words.ts';

/** The plugin process, asked on its control socket. */
export const plugin: Check = {
  name: 'plugin process',
  async run(facts) {
    const service = await facts.service();
    const process = await facts.pluginProcess();
    switch (service.kind) {
      case 'up': {
        const { version, pid, uptimeSeconds, logLevel } = service.status;
        const mine = versions().program;
        const seen = `version ${version}, process ${pid}, up ${age(uptimeSeconds)}, log level ${logLevel}`;
        const other = warning(
          `the running plugin has version ${version}, this program ${mine}`,
          `${RESTART} to take the installed one`,
        );
        return version === mine ? [ok(seen)] : [ok(seen), other];
      }
      case 'stuck': {
        const who = process === undefined ? 'it' : `process ${process.pid}`;
        return [failure(`${service.message}: ${who} ${process?.stuck ?? 'hangs'}`, letGoOn(process))];
      }
      case 'slow':
        return [warning(service.message, AGAIN)];
      case 'forbidden':
        return [failure(service.message, AS_OWNER)];
      case 'down':
        return [down(facts)];
      case 'confused':
        return [
          failure(
            service.message,
            `another program may listen on the control socket, or another version of this one: see who does (ss -xlp)`,
          ),
        ];
      case 'nowhere':
        return [failure(service.message, 'mend the configuration first')];
    }
  },
};

function down(facts: Facts): Finding {
  if (!facts.serveLockHeld)
    return failure('it is not running: nobody listens on the control socket, and serve.lock is free', START);
  const held = `it runs (serve.lock is held${facts.lockHolder === undefined ? '' : ` by process ${facts.lockHolder.pid}`})`;
  // The kernel still knows the socket of a process that listens, under whatever name it was bound.
  if (facts.place !== undefined && facts.listenersAt(facts.place.controlSocket).length > 0)
    return failure(`${held}, but its control socket is gone: somebody has removed it`, RESTART);
  if (facts.begins) return warning(`${held}, and has only begun`, 'wait a few seconds and run doctor again');
  return failure(`${held}, but listens nowhere: it begins, ends, or hangs`, {
    first: ABOVE.first,
    alone: "run doctor again in half a minute; if it says the same, the plugin's log says what it waits for",
  });
}
