/** The shape of the configuration file: names, types, bounds and defaults. docs/configuration.md tells operators the same. */
import { isIP } from 'node:net';
import { endpoint } from './read/endpoint.ts';
import {
  fields,
  list,
  mapping,
  oneOrMore,
  optional,
  required,
  section,
  withDefault,
  type Draft,
} from './read/fields.ts';
import { boolean, Fault, integer, oneOf, scalar, textual, wrongType } from './read/scalars.ts';
import { ckaId, duration, filePath, keyId, mode, name, size, slotId } from './read/units.ts';
import { shown } from './problems.ts';

/** The longest time a Node timer can wait is 24.8 days; a day is more than any of these settings needs. */
const DAY = '24h';

const listenerName = textual((written) => {
  if (/^[A-Za-z0-9][\w.-]{0,62}$/.test(written)) return written;
  return new Fault(`is ${shown(written)}`, 'use at most 63 letters, digits, "-", "_" and "."');
});

const hostName = textual((written) => {
  const label = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i;
  const isName = written.length <= 253 && written.split('.').every((part) => label.test(part)) && isIP(written) === 0;
  if (isName) return written.toLowerCase();
  const mend = 'give the name that clients check, such as kms-plugin.internal';
  return new Fault(`is ${shown(written)} and not a DNS name`, mend);
});

const ipAddress = textual((written) => {
  if (isIP(written) !== 0) return written;
  return new Fault(`is ${shown(written)} and not an IP address`, 'give an address such as 127.0.0.1');
});

/** CK_USER_TYPE: a vendor's own types are CKU_VENDOR_DEFINED (0x80000000) and above, and no role here but a user's. */
const login = scalar<'user' | 'none' | number>((value) => {
  const written = value.kind === 'scalar' ? value.value : undefined;
  if (written === 'user' || written === 'none') return written;
  if (typeof written === 'number' && Number.isInteger(written) && written >= 0x80000000 && written <= 0xffffffff) {
    return written;
  }
  const trouble = typeof written === 'string' ? `is ${shown(written)}` : 'is no kind of login';
  return new Fault(trouble, "write user or none, or a vendor's own user type, a number of 0x80000000 or more");
});

/** An environment variable's value, which may be empty. */
const variable = scalar((value) => {
  if (value.kind === 'scalar' && typeof value.value === 'string') return value.value;
  return wrongType(value, 'a text', 'put the value in quotes');
});

const TLS = {
  certificate: required(filePath, "name the PEM file of the server's certificate"),
  private_key: required(filePath, "name the PEM file of the certificate's private key"),
  ca: optional(filePath),
  host: optional(hostName),
};

const APIS_MEND = 'list the APIs to serve: [v1beta1] for CredHub, [v2] for kube-apiserver';

const LISTENER = {
  name: required(listenerName, 'give the listener a name, such as credhub'),
  endpoint: required(endpoint, "give the socket's path"),
  apis: required(list(oneOf('v1beta1', 'v2'), APIS_MEND), APIS_MEND),
  tls: optional(fields(TLS)),
  mode: optional(mode),
  patience: optional(duration('0', DAY)),
  allow_unprotected: withDefault(boolean, false),
};

const PARTITION = {
  // CK_TOKEN_INFO: a label has 32 bytes, a serial number 16 (PKCS#11 3.1, section 3.2).
  label: optional(name(32)),
  serial: optional(name(16)),
  slot: optional(slotId),
};

const TOKEN = {
  module: required(filePath, "name the HSM vendor's PKCS#11 library"),
  partition: required(fields(PARTITION), 'name it by one of label, serial, slot, such as { label: credhub }'),
  login: withDefault(login, 'user'),
  pin_file: optional(filePath),
  pin_file_newline: optional(oneOf('keep', 'strip')),
  pin_despite_flag: withDefault(boolean, false),
  init_args: optional(textual((written) => written)),
  environment: withDefault(mapping(variable), new Map<string, string>()),
  profile: withDefault(oneOf('auto', 'gcm', 'cloudhsm', 'luna-fips', 'nshield-fips', 'cbc-hmac'), 'auto'),
  sessions: withDefault(integer(1, 128), 16),
  vendor_timeout: withDefault(duration('1s', '10m'), 20_000),
};

const KEY = {
  label: optional(name(255)),
  cka_id: optional(ckaId),
  state: required(oneOf('active', 'decrypt'), 'write active (one key) or decrypt'),
  create: withDefault(boolean, false),
  key_id: optional(oneOrMore(keyId, 'give the id of the key that encrypts, or leave it out')),
  mac_label: optional(name(255)),
  size: withDefault(oneOf(128, 192, 256), 256),
  allow_unsafe: withDefault(boolean, false),
};

/** Envelope settings are optional here so that `check` can tell which were given without effect; see ENVELOPE_DEFAULTS. */
const SCHEME = {
  name: withDefault(oneOf('direct', 'envelope'), 'direct'),
  large_values: optional(oneOf('data-key', 'refuse')),
  data_key: optional(oneOf('per-value', 'reuse')),
  max_age: optional(duration('1s', DAY)),
  // 2^32 messages with random 96-bit IVs under one key: NIST SP 800-38D, section 8.3.
  max_values: optional(integer(1, 2 ** 32)),
  max_bytes: optional(size('1KiB', '1TiB')),
  cache_size: optional(integer(0, 1_000_000)),
  cache_ttl: optional(duration('0', DAY)),
};

export const ENVELOPE_DEFAULTS = {
  dataKey: 'reuse',
  maxAgeMs: 3_600_000,
  maxValues: 1_000_000,
  maxBytes: 64 * 1024 ** 3,
  cacheSize: 10_000,
  cacheTtlMs: 3_600_000,
} as const;

const LIMITS = {
  call_deadline: withDefault(duration('100ms', '10m'), 10_000),
  hide: withDefault(duration('0', '10m'), 2_000),
  in_flight: withDefault(integer(1, 10_000), 64),
  queued: withDefault(integer(0, 100_000), 256),
  connections: withDefault(integer(1, 10_000), 64),
  value: withDefault(size('1KiB', '63MiB'), 1024 ** 2),
  message: withDefault(size('2KiB', '64MiB'), 4 * 1024 ** 2),
  shutdown: withDefault(duration('0', '10m'), 10_000),
};

const HEALTH = {
  address: withDefault(ipAddress, '127.0.0.1'),
  port: withDefault(integer(0, 65_535), 20_358),
};

const LOG = { level: withDefault(oneOf('error', 'warn', 'info', 'debug'), 'info') };

const AUDIT = { file: optional(filePath) };

const LISTENERS_MEND = 'list at least one socket to serve';
const KEYS_MEND = 'list at least the key to encrypt with';

const FILE = {
  state_dir: required(filePath, 'name a directory for the plugin alone, such as /var/vcap/data/kms-plugin/state'),
  control_socket: optional(filePath),
  listeners: required(list(fields(LISTENER), LISTENERS_MEND), LISTENERS_MEND),
  token: required(fields(TOKEN), 'describe the HSM: module, partition, pin_file'),
  keys: required(list(fields(KEY), KEYS_MEND), KEYS_MEND),
  retired_keys: withDefault(list(keyId), []),
  scheme: section(fields(SCHEME)),
  limits: section(fields(LIMITS)),
  health: section(fields(HEALTH)),
  log: section(fields(LOG)),
  audit: section(fields(AUDIT)),
};

export const readFields = fields(FILE);

export type FileDraft = Draft<typeof FILE>;
export type ListenerDraft = Draft<typeof LISTENER>;
export type TlsDraft = Draft<typeof TLS>;
export type TokenDraft = Draft<typeof TOKEN>;
export type KeyDraft = Draft<typeof KEY>;
export type SchemeDraft = Draft<typeof SCHEME>;
export type LimitsDraft = Draft<typeof LIMITS>;
export type HealthDraft = Draft<typeof HEALTH>;
