import { controlSocketIn } from './check/state.ts';
import type { Sheet } from './problems.ts';
import { nameOfCkaId } from './read/units.ts';
import {
  ENVELOPE_DEFAULTS,
  type FileDraft,
  type KeyDraft,
  type ListenerDraft,
  type SchemeDraft,
  type TlsDraft,
  type TokenDraft,
} from './schema.ts';
import type {
  Config,
  EnvelopeConfig,
  KeyConfig,
  ListenerConfig,
  ListenerTls,
  PartitionSelector,
  SchemeConfig,
  TokenConfig,
} from './types.ts';

const PATIENCE_WITH_TLS_MS = 300_000;
const DEFAULT_MODE = 0o600;

/** Turns a draft without faults into the configuration that the other rooms use. */
export function assemble(draft: FileDraft, sheet: Sheet): Config {
  const stateDir = need(draft.state_dir);
  const limits = need(draft.limits);
  const health = need(draft.health);
  return {
    file: sheet.file,
    directory: sheet.directory,
    stateDir,
    controlSocket: draft.control_socket ?? controlSocketIn(stateDir),
    listeners: need(draft.listeners).map(({ value }) => listener(value)),
    token: token(need(draft.token)),
    keys: need(draft.keys).map(({ value }) => key(value)),
    retiredKeys: [...new Set(need(draft.retired_keys).map(({ value }) => value))],
    scheme: scheme(need(draft.scheme)),
    limits: {
      callDeadlineMs: need(limits.call_deadline),
      hideMs: need(limits.hide),
      inFlight: need(limits.in_flight),
      queued: need(limits.queued),
      connections: need(limits.connections),
      valueBytes: need(limits.value),
      messageBytes: need(limits.message),
      shutdownMs: need(limits.shutdown),
    },
    health: { address: need(health.address), port: need(health.port) },
    log: { level: need(need(draft.log).level) },
    ...auditFile(need(draft.audit)),
    warnings: [...sheet.warnings],
  };
}

function listener(draft: ListenerDraft): ListenerConfig {
  const tls = draft.tls ?? undefined;
  return {
    name: need(draft.name),
    endpoint: need(draft.endpoint),
    apis: need(draft.apis).map(({ value }) => value),
    ...(tls === undefined ? {} : { tls: listenerTls(tls) }),
    mode: draft.mode ?? DEFAULT_MODE,
    patienceMs: draft.patience ?? (tls === undefined ? 0 : PATIENCE_WITH_TLS_MS),
    allowUnprotected: need(draft.allow_unprotected),
  };
}

function listenerTls(draft: TlsDraft): ListenerTls {
  return {
    certificateFile: need(draft.certificate),
    privateKeyFile: need(draft.private_key),
    ...(typeof draft.ca === 'string' ? { caFile: draft.ca } : {}),
    ...(typeof draft.host === 'string' ? { host: draft.host } : {}),
  };
}

function token(draft: TokenDraft): TokenConfig {
  const login = need(draft.login);
  return {
    module: need(draft.module),
    partition: partition(need(draft.partition)),
    login,
    ...(typeof draft.pin_file === 'string' && login !== 'none' ? { pinFile: draft.pin_file } : {}),
    ...(typeof draft.pin_file_newline === 'string' ? { pinFileNewline: draft.pin_file_newline } : {}),
    pinDespiteFlag: need(draft.pin_despite_flag),
    ...(typeof draft.init_args === 'string' ? { initArgs: draft.init_args } : {}),
    environment: Object.fromEntries(need(draft.environment)),
    profile: need(draft.profile),
    sessions: need(draft.sessions),
    vendorTimeoutMs: need(draft.vendor_timeout),
  };
}

function partition({ label, serial, slot }: NonNullable<TokenDraft['partition']>): PartitionSelector {
  if (typeof label === 'string') return { by: 'label', label };
  if (typeof serial === 'string') return { by: 'serial', serial };
  return { by: 'slot', slot: need(slot ?? undefined) };
}

function key(draft: KeyDraft): KeyConfig {
  return {
    ...names(draft),
    state: need(draft.state),
    create: need(draft.create),
    ...givenIds(draft.key_id),
    ...(typeof draft.mac_label === 'string' ? { macLabel: draft.mac_label } : {}),
    size: need(draft.size),
    allowUnsafe: need(draft.allow_unsafe),
  };
}

function names({ label, cka_id: ckaId }: KeyDraft): Pick<KeyConfig, 'label' | 'ckaId' | 'anyLabel'> {
  if (typeof ckaId !== 'string') return { label: need(label ?? undefined) };
  return typeof label === 'string' ? { label, ckaId } : { label: nameOfCkaId(ckaId), ckaId, anyLabel: true };
}

function givenIds(drafts: KeyDraft['key_id']): Pick<KeyConfig, 'keyId' | 'moreIds'> {
  const [keyId, ...moreIds] = (drafts ?? []).map(({ value }) => value);
  if (keyId === undefined) return {};
  return { keyId, ...(moreIds.length === 0 ? {} : { moreIds }) };
}

function scheme(draft: SchemeDraft): SchemeConfig {
  const name = need(draft.name);
  const largeValues = draft.large_values ?? 'data-key';
  return name === 'envelope' ? { name, largeValues, envelope: envelope(draft) } : { name, largeValues };
}

function envelope(draft: SchemeDraft): EnvelopeConfig {
  return {
    dataKey: draft.data_key ?? ENVELOPE_DEFAULTS.dataKey,
    maxAgeMs: draft.max_age ?? ENVELOPE_DEFAULTS.maxAgeMs,
    maxValues: draft.max_values ?? ENVELOPE_DEFAULTS.maxValues,
    maxBytes: draft.max_bytes ?? ENVELOPE_DEFAULTS.maxBytes,
    cacheSize: draft.cache_size ?? ENVELOPE_DEFAULTS.cacheSize,
    cacheTtlMs: draft.cache_ttl ?? ENVELOPE_DEFAULTS.cacheTtlMs,
  };
}

function auditFile({ file }: NonNullable<FileDraft['audit']>): Pick<Config, 'auditFile'> {
  return typeof file === 'string' ? { auditFile: file } : {};
}

function need<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('a faulty setting went unreported');
  return value;
}
