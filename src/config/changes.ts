import type { Config, ListenerConfig } from './types.ts';

export interface ConfigChanges {
  /** Properties whose new values a running service takes over. */
  readonly live: readonly string[];
  /** Properties whose new values count only after a restart. */
  readonly needsRestart: readonly string[];
}

/** What a running service takes over when it reads the file again; everything else needs a restart. */
const LIVE = [
  /^keys\b/,
  /^retired_keys$/,
  /^log\./,
  /^audit\./,
  /^limits\./,
  /^scheme$/,
  /^listeners\[[^\]]*\]\.(tls\.|apis$|patience$)/,
];

/**
 * Compares two configurations by property, as operators know them, without values (an environment may hold what should
 * not be shown). A certificate renewed under the same name is no change here: its file is read again at each reload.
 */
export function describeChanges(old: Config, next: Config): ConfigChanges {
  const before = flatten(old);
  const after = flatten(next);
  const changed = [...new Set([...before.keys(), ...after.keys()])].filter(
    (property) => before.get(property) !== after.get(property),
  );
  const reported = new Set(changed.map((property) => wholeEntry(property, before, after)));
  const live = [...reported].filter((property) => LIVE.some((pattern) => pattern.test(property)));
  return { live, needsRestart: [...reported].filter((property) => !live.includes(property)) };
}

/** `next` as far as a running service can follow it: what needs a restart stays as it is in `running`. */
export function asFarAsLive(running: Config, next: Config): Config {
  const listeners = running.listeners.map((old) => {
    const wanted = next.listeners.find(({ name }) => name === old.name) ?? old;
    const tls = old.tls === undefined ? undefined : (wanted.tls ?? old.tls);
    const { name, endpoint, mode, allowUnprotected } = old;
    const { apis, patienceMs } = wanted;
    return { name, endpoint, mode, allowUnprotected, apis, patienceMs, ...(tls === undefined ? {} : { tls }) };
  });
  const { stateDir, controlSocket, token, health } = running;
  return { ...next, listeners, stateDir, controlSocket, token, health };
}

type Flat = ReadonlyMap<string, string>;

function flatten(config: Config): Flat {
  const { callDeadlineMs, hideMs, inFlight, queued, connections, valueBytes, messageBytes, shutdownMs } = config.limits;
  const { token } = config;
  const flat: Record<string, unknown> = {
    state_dir: config.stateDir,
    control_socket: config.controlSocket,
    'token.module': token.module,
    'token.partition': token.partition,
    'token.login': token.login,
    'token.pin_file': token.pinFile,
    'token.pin_file_newline': token.pinFileNewline,
    'token.pin_despite_flag': token.pinDespiteFlag,
    'token.init_args': token.initArgs,
    'token.profile': token.profile,
    'token.sessions': token.sessions,
    'token.vendor_timeout': token.vendorTimeoutMs,
    ...prefixed('token.environment.', token.environment),
    retired_keys: [...config.retiredKeys].sort(),
    scheme: config.scheme,
    ...prefixed('limits.', {
      call_deadline: callDeadlineMs,
      hide: hideMs,
      in_flight: inFlight,
      queued,
      connections,
      value: valueBytes,
      message: messageBytes,
      shutdown: shutdownMs,
    }),
    ...prefixed('health.', config.health),
    ...prefixed('log.', config.log),
    'audit.file': config.auditFile,
  };
  for (const listener of config.listeners)
    Object.assign(flat, prefixed(`listeners[${listener.name}]`, ofListener(listener)));
  for (const key of config.keys) {
    Object.assign(
      flat,
      prefixed(`keys[${key.label}]`, {
        '': 'listed',
        '.state': key.state,
        '.create': key.create,
        '.key_id': key.keyId === undefined ? undefined : [key.keyId, ...(key.moreIds ?? [])],
        '.label': key.anyLabel === true ? undefined : key.label,
        '.cka_id': key.ckaId,
        '.mac_label': key.macLabel,
        '.size': key.size,
        '.allow_unsafe': key.allowUnsafe,
      }),
    );
  }
  return new Map(Object.entries(flat).map(([property, value]) => [property, JSON.stringify(value ?? null)]));
}

function ofListener({
  endpoint,
  apis,
  tls,
  mode,
  patienceMs,
  allowUnprotected,
}: ListenerConfig): Record<string, unknown> {
  return {
    '': 'listed',
    '.endpoint': endpoint,
    '.apis': [...apis].sort(),
    '.mode': mode,
    '.patience': patienceMs,
    '.allow_unprotected': allowUnprotected,
    '.tls': tls !== undefined,
    ...(tls === undefined
      ? {}
      : {
          '.tls.certificate': tls.certificateFile,
          '.tls.private_key': tls.privateKeyFile,
          '.tls.ca': tls.caFile,
          '.tls.host': tls.host,
        }),
  };
}

function prefixed(prefix: string, values: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [prefix + name, value]));
}

/** An entry or section that was added or removed is reported as a whole, not with each of its properties. */
function wholeEntry(property: string, before: Flat, after: Flat): string {
  const parents = [/^(?:keys|listeners)\[.*\](?=$|\.)/, /^listeners\[.*\]\.tls(?=$|\.)/];
  for (const pattern of parents) {
    const entry = pattern.exec(property)?.[0];
    if (entry !== undefined && before.get(entry) !== after.get(entry)) return entry;
  }
  return property;
}
