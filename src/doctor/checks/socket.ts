import path from 'node:path';
import type { ListenerConfig } from '../../config/index.ts';
import type { Facts, Service } from '../facts.ts';
import { barrier, lookAt } from '../look/files.ts';
import { connects, reached, socketName } from '../look/listening.ts';
import type { Process } from '../look/processes.ts';
import { ABOVE, failure, ok, unseen, warning, type Check, type Finding } from '../types.ts';
import { AGAIN, AS_OWNER, letGoOn, octal, RESTART, START } from '../words.ts';

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
    const absent = missing(endpoint.path, shown, facts, service);
    if (absent !== undefined) return [absent];
  }
  const address = socketName(endpoint);
  const connected = await connects(address, facts.patient(CONNECT_MS));
  if (connected !== 'connected') return [notConnected(shown, connected, facts, endpoint)];

  const full = noneFree(listener, shown, facts, service);
  if (full !== undefined) return [full];
  const within = facts.patient(CONNECT_MS);
  const who = (await reached(facts.around.proc, address, facts.listenersAt(address), within))?.processes ?? [];
  const plugin = await facts.pluginProcess();
  const [listening] = who;
  if (service.kind === 'stuck') {
    const why = (plugin ?? listening)?.stuck;
    const seen = `${shown} accepts, but the plugin process ${(plugin ?? listening)?.pid ?? ''} ${why ?? 'does not answer'}: clients wait`;
    return [failure(seen, letGoOn(plugin ?? listening))];
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

/** The next connection is closed at once: what doctor and clients try fails, each in its own words. */
function noneFree({ name }: ListenerConfig, shown: string, { config }: Facts, service: Service): Finding | undefined {
  if (service.kind !== 'up' || config === undefined) return undefined;
  const open = service.status.listeners.find((each) => each.name === name)?.connections ?? 0;
  if (open < config.limits.connections) return undefined;
  const seen = `${shown} takes no further connection: ${open} are open, as many as limits.connections allows`;
  return failure(seen, 'see who has them (ss -xp); raise limits.connections only if they belong there');
}

const AS_OTHERS = 'a process that this user may not look at';

function missing(file: string, shown: string, facts: Facts, service: Service): Finding | undefined {
  const found = lookAt(file);
  if (found.kind === 'there') {
    if (found.stats.isSocket()) return undefined;
    return failure(`${shown} is no socket`, `move it away (mv ${file} ${file}.old), and ${RESTART}`);
  }
  if (found.kind === 'hidden') return shutOut(file, shown, found.code);
  const directory = path.dirname(file);
  if (lookAt(directory).kind === 'absent') {
    return failure(
      `${shown} is not there, nor is its directory`,
      `make ${directory}, owned by the plugin's user, mode 0700, and restart plugin and clients (a container keeps the old one)`,
    );
  }
  // The kernel still knows the socket of a process that listens, under whatever name it was bound.
  if (service.kind === 'up' || facts.listenersAt(file).length > 0)
    return failure(
      `${shown} is not there, though the service runs: somebody has removed it`,
      `${RESTART}; never remove the socket`,
    );
  return notListening(`${shown} is not there`, facts);
}

/** Nobody listens: whether a plugin runs all the same is known from the lock that it holds for its life. */
function notListening(seen: string, facts: Facts): Finding {
  const { lockHolder } = facts;
  if (!facts.serveLockHeld) return failure(`${seen}: the service is not running`, START);
  const who = lockHolder === undefined ? 'a plugin' : `process ${lockHolder.pid}`;
  if (facts.begins) return warning(`${seen}: ${who} has only begun`, 'wait a few seconds and run doctor again');
  return failure(`${seen}, though ${who} holds serve.lock: it begins, ends, or hangs`, WAIT);
}

const WAIT = "run doctor again in half a minute; if it says the same, the plugin's log says what it waits for";

/** A directory on the way that this user cannot enter: nothing is known of what is behind it. */
function shutOut(file: string, shown: string, code: string): Finding {
  const self = process.geteuid?.() ?? '?';
  const found = barrier(file);
  if (found === undefined) return failure(`${shown} cannot be looked at by user ${self} (${code})`, AS_OWNER);
  const { directory, stats } = found;
  const mode = octal(stats.mode);
  const seen = `${shown}: user ${self} cannot enter ${directory} (${code}; it belongs to user ${stats.uid}, mode ${mode})`;
  if (stats.uid === self) return failure(seen, `chmod u+rwx ${directory}; the plugin and its clients need it too`);
  return failure(
    seen,
    `${AS_OWNER}; if this is that user, have user ${stats.uid} let it in, or choose another directory`,
  );
}

function notConnected(shown: string, code: string, facts: Facts, endpoint: ListenerConfig['endpoint']): Finding {
  switch (code) {
    case 'ECONNREFUSED':
      return notListening(
        endpoint.kind === 'abstract' ? `${shown}: nobody listens` : `${shown} is left over: nobody listens`,
        facts,
      );
    case 'EACCES':
    case 'EPERM':
      if (endpoint.kind === 'path' && barrier(endpoint.path) !== undefined) return shutOut(endpoint.path, shown, code);
      return failure(
        `${shown}: this user (${process.geteuid?.() ?? '?'}) may not connect`,
        `${AS_OWNER}; a client needs the right to write to the socket and to enter its directory`,
      );
    case 'EAGAIN':
    case 'timeout':
      if (facts.isSlow) return warning(`${shown} did not accept in time, on a slow host`, AGAIN);
      return failure(`${shown} takes no more connections: nobody accepts them`, { first: ABOVE.first, alone: AGAIN });
    default:
      return failure(`${shown} cannot be reached: ${code}`, 'see unix(7) and connect(2) for this error');
  }
}

/** A mode that shuts clients out; one that lets others in is a matter of access. */
function modeTroubles({ mode }: ListenerConfig, file: string, shown: string): Finding[] {
  const seenFile = lookAt(file);
  const found = seenFile.kind === 'there' ? seenFile.stats.mode : mode;
  if ((mode & ~found & 0o777) === 0) return [];
  const seen = `${shown} has mode ${octal(found)} instead of ${octal(mode)}: clients may be shut out`;
  return [failure(seen, `chmod ${octal(mode)} ${file}, and see who changed it`)];
}
