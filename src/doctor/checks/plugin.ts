import { versions } from '../../version/index.ts';
import type { Facts } from '../facts.ts';
import { failure, ok, warning, type Check, type Finding } from '../types.ts';
import { age, AS_OWNER, RESTART, START } from '../words.ts';

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
        const why = process?.stuck;
        const who = process === undefined ? 'it' : `process ${process.pid}`;
        const mend =
          why?.startsWith('is stopped') === true
            ? `let it go on (kill -CONT ${process?.pid ?? 'PID'}), or ${RESTART}`
            : `keep its log, then ${RESTART}`;
        return [failure(`${service.message}: ${who} ${why ?? 'hangs'}`, mend)];
      }
      case 'forbidden':
        return [failure(service.message, AS_OWNER)];
      case 'down':
        return [down(facts)];
      case 'confused':
        return [
          failure(
            service.message,
            `another program may listen on the control socket, or another version of this one: ${RESTART}`,
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
  return failure('it runs (serve.lock is held), but its control socket is gone: somebody has removed it', RESTART);
}
