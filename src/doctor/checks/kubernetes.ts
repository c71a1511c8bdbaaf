import type { ListenerReport } from '../../control/index.ts';
import type { Facts } from '../facts.ts';
import { failure, ok, unseen, warning, type Check, type Finding } from '../types.ts';

/** kube-apiserver asks every minute when all is well and every 10 s when not; three minutes are too long. */
const SILENT_MS = 180_000;

/** For each listener with v2: what Status answers, what kube-apiserver's own checks say to that, when it last asked. */
export const kubernetes: Check = {
  name: 'kubernetes',
  async run(facts) {
    const service = await facts.service();
    if (service.kind !== 'up') return [unseen(service.message)];
    const listeners = service.status.listeners.filter((listener) => listener.kubernetes !== undefined);
    if (listeners.length === 0) return [ok('no listener serves v2, kube-apiserver is not a client')];
    return listeners.flatMap((listener) => examine(listener, facts));
  },
};

function examine({ name, kubernetes: report }: ListenerReport, facts: Facts): Finding[] {
  if (report === undefined) return [];
  const { status, problems, lastAsked } = report;
  const answers =
    status === undefined
      ? 'fails'
      : `answers version ${status.version}, healthz ${status.healthz === 'ok' ? 'ok' : 'not ok'}, key_id ${status.keyId}`;
  const head = `${name}: Status ${answers}`;
  if (problems.length > 0) {
    return problems.map((problem) =>
      failure(
        status === undefined ? `${name}: ${problem}` : `${head}; kube-apiserver refuses that: ${problem}`,
        'mend what fails above; kube-apiserver takes new answers within a minute',
      ),
    );
  }
  if (lastAsked === undefined) {
    return [
      ok(head),
      warning(
        `${name}: kube-apiserver has not asked since the service started`,
        "if it should by now: compare the endpoint in its EncryptionConfiguration (unix://PATH) and whether its pod mounts the socket's directory",
      ),
    ];
  }
  const silent = facts.around.now().getTime() - Date.parse(lastAsked.at);
  if (silent <= SILENT_MS) return [ok(`${head}, last asked at ${lastAsked.at} by ${lastAsked.client}`)];
  return [
    ok(head),
    warning(
      `${name}: kube-apiserver last asked at ${lastAsked.at}`,
      'see whether kube-apiserver runs, and whether it mounts the directory as it is now',
    ),
  ];
}
