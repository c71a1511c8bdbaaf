import path from 'node:path';
import type { ListenerConfig } from '../../config/index.ts';
import type { Facts } from '../facts.ts';
import { lookAt } from '../look/files.ts';
import { connects, reached, socketName } from '../look/listening.ts';
import type { Process } from '../look/processes.ts';
import { failure, ok, unseen, warning, type Check, type Finding } from '../types.ts';
import { AS_OWNER, octal, RESTART, START } from '../words.ts';

const CONNECT_MS = 1_000;

/** Each listener's socket: there, of the right kind and mode, and the plugin itself behind it. */
export const socket: Check = {
  name: 'socket',
  async run(facts) {
    const listeners = facts.config?.listeners;
    if (listeners === undefined) return [await withoutConfiguration(facts)];
    return (await Promise.all(listeners.map((listener) => examine(facts, listener)))).flat();
  },
};

/** The running service knows its sockets, though the file is at fault. */
async function withoutConfiguration(facts: Facts): Promise<Finding> {
  const service = await facts.service();
  if (service.kind !== 'up') return unseen('the configuration is at fault');
  const served = service.status.listeners.map(({ name, endpoint }) => `${name} ${endpoint}`).join(', ');
  return warning(`the running service listens with an older configuration: ${served}`, 'mend the configuration first');
}

async function examine(facts: Facts, listener: ListenerConfig): Promise<Finding[]> {
  const { endpoint, name } = listener;
  const shown = `${name}: ${endpoint.kind === 'path' ? endpoint.path : `unix:///@${endpoint.name}`}`;
  const service = await facts.service();
  if (endpoint.kind === 'path') {
    const absent = missing(endpoint.path, shown, service.kind === 'up');
    if (absent !== undefined) return [absent];
  }
  const address = socketName(endpoint);
  const connected = await connects(address, CONNECT_MS);
  if (connected !== 'connected') return [notConnected(shown, connected, endpoint.kind === 'abstract')];

  const who = (await reached(facts.around.proc, address, facts.listenersAt(address), CONNECT_MS))?.processes ?? [];
  const plugin = await facts.pluginProcess();
  const [listening] = who;
  if (service.kind === 'stuck') {
    const why = (plugin ?? listening)?.stuck;
    const seen = `${shown} accepts, but the plugin process ${(plugin ?? listening)?.pid ?? ''} ${why ?? 'does not answer'}: clients wait without end`;
    return [
      failure(
        seen,
        why?.startsWith('is stopped') === true
          ? `let it go on (kill -CONT ${(plugin ?? listening)?.pid ?? 'PID'}), or ${RESTART}`
          : `keep its log, then ${RESTART}`,
      ),
    ];
  }
  if (listening !== undefined && plugin !== undefined && !who.some(({ pid }) => pid === plugin.pid)) {
    const seen = `${shown}: process ${listening.pid} listens there, which is not the plugin (process ${plugin.pid})`;
    return [failure(seen, `stop process ${listening.pid}, and ${RESTART}`)];
  }
  if (service.kind === 'down' && listening !== undefined && !facts.serveLockHeld) {
    const seen = `${shown}: process ${listening.pid} listens there, but no plugin with this state_dir runs`;
    return [failure(seen, `see what it is (ps ${listening.pid}); stop it, and start the plugin`)];
  }
  const troubles = endpoint.kind === 'path' ? modeTroubles(listener, endpoint.path, shown) : [];
  const by = who.map(({ pid }: Process) => `process ${pid}`).join(' and ');
  return troubles.length > 0 ? troubles : [ok(`${shown} answers (${by === '' ? AS_OTHERS : by} listens)`)];
}

const AS_OTHERS = 'a process that this user may not look at';

function missing(file: string, shown: string, up: boolean): Finding | undefined {
  const found = lookAt(file);
  if (found?.isSocket() === true) return undefined;
  if (found !== undefined) {
    return failure(`${shown} is no socket`, `move it away (mv ${file} ${file}.old), and ${RESTART}`);
  }
  const directory = path.dirname(file);
  if (lookAt(directory) === undefined) {
    return failure(
      `${shown} is not there, nor is its directory`,
      `make ${directory}, owned by the plugin's user, mode 0700, and restart plugin and clients (a container keeps the old one)`,
    );
  }
  if (up)
    return failure(
      `${shown} is not there, though the service runs: somebody has removed it`,
      `${RESTART}; never remove the socket`,
    );
  return failure(`${shown} is not there: the service is not running`, START);
}

function notConnected(shown: string, code: string, abstract: boolean): Finding {
  switch (code) {
    case 'ECONNREFUSED':
      if (abstract) return failure(`${shown}: nobody listens`, START);
      return failure(`${shown} is left over: nobody listens, the service is not running`, START);
    case 'EACCES':
    case 'EPERM':
      return failure(
        `${shown}: this user (${process.geteuid?.() ?? '?'}) may not connect`,
        `${AS_OWNER}; a client needs the right to write to the socket and to enter its directory`,
      );
    case 'EAGAIN':
    case 'timeout':
      return failure(
        `${shown} takes no more connections: nobody accepts them, the plugin process hangs`,
        `keep its log, then ${RESTART}`,
      );
    default:
      return failure(`${shown} cannot be reached: ${code}`, 'see unix(7) and connect(2) for this error');
  }
}

/** A mode that shuts clients out; one that lets others in is a matter of access. */
function modeTroubles({ mode }: ListenerConfig, file: string, shown: string): Finding[] {
  const found = Number(lookAt(file)?.mode ?? mode);
  if ((mode & ~found & 0o777) === 0) return [];
  const seen = `${shown} has mode ${octal(found)} instead of ${octal(mode)}: clients may be shut out`;
  return [failure(seen, `chmod ${octal(mode)} ${file}, and see who changed it`)];
}
