import type { StatusReport } from '../control/index.ts';
import type { RecentWindow } from '../recent/index.ts';
import { moment, paints, plural, span, type Paints } from './format.ts';
import { keyLines } from './key-lines.ts';

const WIDTH = 12;

/** kube-apiserver asks for Status every minute when all is well, and every 10 s when not, in seconds with room to spare. */
const STATUS_OVERDUE = 180;

/** `kms-plugin status`: the running service on one screen. */
export function statusScreen(status: StatusReport, colour: boolean, now: Date): string {
  const paint = paints(colour);
  return [
    `kms-plugin ${status.version}, process ${status.pid}, up ${span(status.uptimeSeconds)} (since ${moment(status.started)})`,
    paint.faint(`${status.configFile}, log level ${status.logLevel}`),
    '',
    ...section('state', [stateLine(status, paint)]),
    ...section('token', tokenLines(status, paint, now)),
    ...section('listeners', listenerLines(status, paint, now)),
    ...section('kubernetes', kubernetesLines(status, paint, now)),
    ...section(
      'keys',
      status.keys.flatMap((key) => keyLines(key, paint)),
    ),
    ...section('calls', callLines(status, paint)),
    ...section('data keys', dataKeyLines(status)),
    ...section('reload', reloadLines(status, paint)),
    ...section('warnings', status.warnings.map(paint.notice)),
  ].join('\n');
}

function section(name: string, lines: readonly string[]): string[] {
  return lines.map((line, at) => (at === 0 ? name : '').padEnd(WIDTH) + line);
}

function stateLine({ health }: StatusReport, paint: Paints): string {
  const key = health.activeKeyId === undefined ? '' : `, encrypting with key ${health.activeKeyId}`;
  return health.ok ? `${paint.good('ready')}${key}` : paint.bad(`not ready: ${health.reason}`);
}

function tokenLines({ token, health }: StatusReport, paint: Paints, now: Date): string[] {
  // Said once: the reason is long, and most often that of the line above.
  const why = token.reason === health.reason ? 'see above' : token.reason;
  const state = token.state === 'ready' ? paint.good('ready') : paint.bad(`${token.state}: ${why}`);
  const { process: child, module, token: found } = token;
  const lines = [`${state}, since ${moment(token.since)}`];
  if (found !== undefined) {
    const { label, serial, slot, manufacturer, model, firmware } = found;
    lines.push(`"${label}", serial ${serial}, slot ${slot}: ${manufacturer} ${model}, firmware ${firmware}`);
  }
  const about = [module.description, module.version].filter((text) => text !== undefined).join(' ');
  lines.push(`${module.path}${about === '' ? '' : ` (${about})`}`);
  const facts = [
    child.pid === undefined ? 'no process' : `process ${child.pid}`,
    plural(child.restarts, 'restart'),
    ...(child.replaced === 0 ? [] : [`${child.replaced} replaced on purpose`]),
    ...(token.sessions === undefined ? [] : [`${token.sessions.open} of ${plural(token.sessions.limit, 'session')}`]),
    ...(token.profile === undefined ? [] : [`profile ${token.profile}`]),
    ...(token.lastGood === undefined ? [] : [`last good answer ${ago(token.lastGood, now)}`]),
  ];
  lines.push(facts.join(', '));
  if (token.pinFile !== undefined) lines.push(paint.notice(token.pinFile));
  if (token.lastError !== undefined) {
    const { at, message } = token.lastError;
    lines.push(paint.notice(`last error ${ago(at, now)}${message === token.reason ? ', the same' : `: ${message}`}`));
  }
  return lines;
}

function listenerLines({ listeners }: StatusReport, paint: Paints, now: Date): string[] {
  return listeners.map(({ name, endpoint, apis, tls, connections, certificateExpires }) => {
    const head = `${name}  ${endpoint}  ${apis.join(', ')}, ${plural(connections, 'connection')}, `;
    if (!tls || certificateExpires === undefined) return `${head}${tls ? 'TLS' : 'no TLS'}`;
    const left = (Date.parse(certificateExpires) - now.getTime()) / 1000;
    const until = `TLS until ${certificateExpires.slice(0, 10)}`;
    if (left <= 0) return head + paint.bad(`${until}: the certificate has run out`);
    return head + (left < 30 * 86_400 ? paint.notice(`${until}: ${span(left)} left`) : until);
  });
}

/** For each listener with v2: what kube-apiserver hears from Status, when it asked, and what it has against the answer. */
function kubernetesLines({ listeners }: StatusReport, paint: Paints, now: Date): string[] {
  return listeners.flatMap(({ name, kubernetes }) => {
    if (kubernetes === undefined) return [];
    const { status, problems, lastAsked } = kubernetes;
    const answer =
      status === undefined
        ? 'fails'
        : `${status.version}, ${problems.length === 0 ? 'ok' : 'not ok'}, key_id ${status.keyId}`;
    const silent = lastAsked === undefined ? Infinity : (now.getTime() - Date.parse(lastAsked.at)) / 1000;
    const asked =
      lastAsked === undefined
        ? 'not asked since the start'
        : `last asked ${ago(lastAsked.at, now)} by ${lastAsked.client === '' ? 'a client without a name' : lastAsked.client}`;
    return [
      `${name}  Status: ${answer}; ${silent > STATUS_OVERDUE ? paint.notice(asked) : asked}`,
      ...problems.map(paint.bad),
    ];
  });
}

/** Now, the last minutes, and all since the start. */
function callLines({ calls, recent }: StatusReport, paint: Paints): string[] {
  const methods = new Map<string, string[]>();
  for (const { api, method, status, count } of calls.finished) {
    const name = `${api} ${method}`;
    methods.set(name, [...(methods.get(name) ?? []), `${count} ${status}`]);
  }
  const all = [...methods].map(([name, counts]) => `${name} ${counts.join(', ')}`);
  return [
    `${calls.inFlight} in flight, ${calls.queued} queued, ${calls.waiting} waiting for the token`,
    recentLine(recent.last5, paint),
    ...(recent.last60.minutes > recent.last5.minutes ? [recentLine(recent.last60, paint)] : []),
    ...(all.length === 0 ? [] : [`since the start: ${all.join('; ')}`]),
  ];
}

function recentLine(
  { minutes, requests, errors, errorCodes, foreign = 0, p50Ms, p99Ms, maxMs }: RecentWindow,
  paint: Paints,
): string {
  const codes = errorCodes.map(({ code, count }) => `${count} ${code}`).join(', ');
  const failed = errors === 0 ? 'no errors' : paint.bad(`${plural(errors, 'error')} (${codes})`);
  const times = p50Ms === undefined ? '' : `, p50 ${p50Ms} ms, p99 ${p99Ms} ms, longest ${maxMs} ms`;
  const others = foreign === 0 ? '' : `, ${foreign} about foreign ciphertexts (normal while CredHub starts)`;
  return `last ${minutes} min: ${plural(requests, 'request')}, ${failed}${others}${times}`;
}

/** Nothing where none was ever used: the direct scheme. */
function dataKeyLines({ dataKeys }: StatusReport): string[] {
  const { cached, hits, misses, made, encryptsUntil } = dataKeys;
  if (cached + hits + misses + made === 0) return [];
  const counts = `${cached} cached, ${made} made; Decrypt found ${hits} and had the HSM open ${misses}`;
  return encryptsUntil === undefined
    ? [counts]
    : [counts, `the current one lasts until ${moment(encryptsUntil)}, with or without the HSM`];
}

function reloadLines({ lastReload }: StatusReport, paint: Paints): string[] {
  if (lastReload === undefined) return [];
  const { at, ok, taken, problems, needsRestart } = lastReload;
  return [
    ok
      ? `taken at ${moment(at)}${taken.length === 0 ? '' : `: ${taken.join(', ')}`}`
      : paint.bad(`failed at ${moment(at)}; the old configuration goes on`),
    ...problems.map(paint.bad),
    ...needsRestart.map((property) => paint.notice(`${property} takes effect only after a restart`)),
  ];
}

function ago(iso: string, now: Date): string {
  return `${span((now.getTime() - Date.parse(iso)) / 1000)} ago`;
}
