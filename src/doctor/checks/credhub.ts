import { X509Certificate } from 'node:crypto';
import { shakeHandsApart } from '../../api/index.ts';
import { credhubTakes, type ListenerConfig } from '../../config/index.ts';
import type { Facts } from '../facts.ts';
import { credhubPorts, credhubProcess, readProviders, type Provider } from '../look/credhub.ts';
import { socketName, tcpListens } from '../look/listening.ts';
import { after, failure, ok, unseen, warning, type Check, type Finding } from '../types.ts';
import { refusalOf } from './tls.ts';

const HANDSHAKE_MS = 2_000;
const RESTART = 'restart it (BOSH: monit restart credhub); it does not try again by itself';
/** One that does not make the canary itself waits so long for the instance that does, in seconds. */
const CANARY_WAIT = 600;
const IN_MANIFEST = "in CredHub's manifest, credhub.encryption.providers";

/** CredHub where it is on this machine: its provider's settings against ours, and whether it serves. */
export const credhub: Check = {
  name: 'credhub',
  async run(facts) {
    const read = readProviders(facts.around.credhub);
    if (read.kind === 'absent') return [ok('CredHub is not on this machine')];
    if (read.kind === 'trouble') return [unseen(read.why, 'run doctor as root or vcap to have it looked at')];
    const settings = await settingsTroubles(read.providers, facts);
    return [...settings, ...(await serving(facts, read.makesCanary))];
  },
};

async function settingsTroubles(providers: readonly Provider[], facts: Facts): Promise<Finding[]> {
  const ours = providers.filter(({ type }) => type === 'kms-plugin');
  const [provider] = ours;
  if (provider === undefined) {
    return [
      warning(
        'no provider is of type kms-plugin: CredHub does not use this plugin',
        `add one ${IN_MANIFEST}, if it should`,
      ),
    ];
  }
  if (ours.length > 1)
    return [
      failure(`${ours.length} providers are of type kms-plugin: CredHub's job takes one`, `leave one ${IN_MANIFEST}`),
    ];
  const active = providers.flatMap(({ name, keys }) => keys.filter((each) => each.active).map(() => name));
  if (active.length !== 1) {
    const seen =
      active.length === 0 ? 'no key is active' : `${active.length} keys are active (of ${active.join(', ')})`;
    return [failure(`${seen}: CredHub wants exactly one`, "give exactly one key active: true in CredHub's manifest")];
  }
  const troubles = await connectionTroubles(provider, facts);
  if (troubles.length > 0) return troubles;
  return [
    ok(
      `its provider ${provider.name} has our endpoint, and its ca and host fit our certificate; the active key is of ${active[0] ?? ''}`,
    ),
  ];
}

async function connectionTroubles({ name, endpoint, host, ca }: Provider, facts: Facts): Promise<Finding[]> {
  if (endpoint === undefined || host === undefined || ca === undefined) {
    return [failure(`its provider ${name} lacks endpoint, host or ca`, `set all three ${IN_MANIFEST}`)];
  }
  if (!endpoint.startsWith('/')) {
    return [
      failure(
        `its endpoint is ${endpoint}, which CredHub takes for the name of a file`,
        `write the bare path ${IN_MANIFEST}: ${endpoint.replace(/^unix:(\/\/)?/, '')}`,
      ),
    ];
  }
  if (facts.config === undefined) return [unseen('its endpoint: the configuration is at fault')];
  const listener = listenerAt(endpoint, facts.config.listeners);
  if (listener === undefined) {
    const have = facts.config.listeners.map((each) => socketName(each.endpoint));
    return [
      failure(
        `its endpoint ${endpoint} is no listener of ours (${have.join(', ')})`,
        `give both the same path: kms-plugin.socket_endpoint, and endpoint ${IN_MANIFEST}`,
      ),
    ];
  }
  if (listener.tls === undefined)
    return [
      failure(
        `our listener ${listener.name} at its endpoint has no TLS, which CredHub always speaks`,
        'give that listener tls',
      ),
    ];
  if (!listener.apis.includes('v1beta1'))
    return [
      failure(
        `our listener ${listener.name} at its endpoint does not serve v1beta1, which CredHub speaks`,
        'add v1beta1 to its apis',
      ),
    ];
  const seen = await shakeHandsApart({ socketPath: endpoint, host, ca, withinMs: facts.patient(HANDSHAKE_MS) });
  if (seen.certificate === undefined)
    return [unseen(`whether it trusts our certificate: ${seen.crashed ?? seen.broken ?? ''}`)];
  const refusal = refusalOf(seen, host);
  if (
    refusal === undefined ||
    credhubTakes(
      seen.certificate.chain.map((der) => new X509Certificate(der)),
      Buffer.from(ca),
      host,
      facts.around.now(),
    )
  )
    return [];
  return [failure(`with its own ca and host (${host}) ${refusal.seen}`, refusal.mend)];
}

function listenerAt(endpoint: string, listeners: readonly ListenerConfig[]): ListenerConfig | undefined {
  return listeners.find((each) => each.endpoint.kind === 'path' && each.endpoint.path === endpoint);
}

/** A start that failed leaves CredHub's process running, and it serves nothing from then on. One that waits looks the same. */
async function serving(facts: Facts, makesCanary: boolean | undefined): Promise<Finding[]> {
  const { proc, credhub: directory, credhubStart } = facts.around;
  const process = credhubProcess(proc);
  if (process === undefined)
    return [warning('its process is not running, or not to be seen from here', 'start it (BOSH: monit start credhub)')];
  const silent = credhubPorts(directory, process).filter((port) => tcpListens(proc, port) === false);
  if (silent.length === 0) return [ok(`its process ${process.pid} runs and serves`)];
  const age = process.age(proc);
  const seen = `its process ${process.pid} runs, but nobody listens on port ${silent.join(' and ')}`;
  const service = await facts.service();
  if (service.kind === 'up' && service.status.calls.waiting > 0) {
    const { calls, health } = service.status;
    const why = `${seen}: it waits at its start for this plugin (${calls.waiting} calls wait here: ${health.reason})`;
    return [warning(why, after('mend what fails above: it goes on by itself then', WAIT))];
  }
  const starts = credhubStart * facts.slowness;
  if (age !== undefined && age < starts) return [warning(`${seen}: it starts, since ${Math.floor(age)} s`, WAIT)];
  if (makesCanary !== true && age !== undefined && age < starts + CANARY_WAIT) {
    const why = `${seen}: since ${Math.floor(age)} s it starts, or waits (${CANARY_WAIT} s at most) for the canary that the first instance of CredHub makes`;
    return [warning(why, `see whether CredHub serves on its first instance; ${WAIT}`)];
  }
  return [
    failure(
      `${seen}: it is stuck at its start, which failed when it first called the plugin, or another of its parts`,
      after(`mend what fails above, then ${RESTART}`, `keep its log, which says what failed, then ${RESTART}`),
    ),
  ];
}

const WAIT = 'wait and run doctor again';
