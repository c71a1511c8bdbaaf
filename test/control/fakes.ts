import type { ControlHandlers, CreatedKey, StatusReport } from '../../src/control/index.ts';
import type { FoundKeyReport, KeyReport } from '../../src/keyring/index.ts';
import type { Log, LogFields } from '../../src/log/index.ts';

const FOUND: FoundKeyReport = {
  keyIds: ['00112233445566778899aabbccddeeff'],
  idKind: 'check-value',
  sizeBits: 256,
  scheme: 1,
  attributes: { CKA_SENSITIVE: true, CKA_EXTRACTABLE: false },
  problems: [],
  usable: true,
  encrypts: 3,
  decrypts: 4,
};

export const KEY: KeyReport = {
  label: 'credhub-2026',
  state: 'active',
  encryptedHere: true,
  found: [FOUND],
};

export const CREATED: CreatedKey = { label: 'credhub-2026', listed: true, key: FOUND };

export const STATUS: StatusReport = {
  version: '1.0.0',
  pid: 4711,
  started: '2026-08-01T10:00:00.000Z',
  uptimeSeconds: 93_784,
  configFile: '/etc/kms-plugin.yml',
  logLevel: 'info',
  health: {
    availability: 'ready',
    servesCached: false,
    ok: true,
    reason: 'ok',
    activeKeyId: '00112233445566778899aabbccddeeff',
    activeKeyGone: false,
  },
  listeners: [
    {
      name: 'credhub',
      endpoint: '/run/kms-plugin.sock',
      apis: ['v1beta1'],
      tls: true,
      connections: 1,
      certificateExpires: '2027-08-01T10:00:00.000Z',
    },
  ],
  keys: [KEY],
  token: {
    state: 'ready',
    reason: 'ok',
    since: '2026-08-01T10:00:01.000Z',
    process: { pid: 4712, restarts: 0, replaced: 0, started: '2026-08-01T10:00:00.100Z' },
    module: { path: '/usr/lib/softhsm/libsofthsm2.so', description: 'SoftHSM', version: '2.6' },
  },
  calls: {
    inFlight: 0,
    queued: 0,
    waiting: 0,
    finished: [{ api: 'v1beta1', method: 'Encrypt', status: 'OK', count: 3 }],
  },
  recent: {
    last5: { minutes: 5, requests: 0, errors: 0, errorCodes: [] },
    last60: {
      minutes: 60,
      requests: 3,
      errors: 1,
      errorCodes: [{ code: 'KMS-2001', count: 1 }],
      p50Ms: 1.2,
      p99Ms: 2_012,
      maxMs: 2_012,
    },
  },
  dataKeys: { cached: 0, hits: 0, misses: 0, made: 0 },
  warnings: [],
};

/** Handlers that note what they were asked. */
export function fakeHandlers(overrides: Partial<ControlHandlers> = {}) {
  const asked: unknown[] = [];
  const handlers: ControlHandlers = {
    status: () => STATUS,
    keys: () => Promise.resolve([KEY]),
    createKey: (label) => {
      asked.push(['createKey', label]);
      return Promise.resolve(CREATED);
    },
    inspectKey: (label) => Promise.resolve({ ...KEY, label }),
    setLogLevel: (level, forMs) => {
      asked.push(['setLogLevel', level, forMs]);
      return { level };
    },
    pins: () => Promise.resolve([]),
    clearPins: (serial) => {
      asked.push(['clearPins', serial]);
      return Promise.resolve({ forgotten: 2 });
    },
    reload: () =>
      Promise.resolve({
        at: '2026-08-01T10:00:00.000Z',
        ok: true,
        problems: [],
        taken: [],
        warnings: [],
        needsRestart: [],
      }),
    ...overrides,
  };
  return { handlers, asked };
}

/** A log that keeps its lines. */
export function fakeLog() {
  const lines: { level: string; message: string; fields: LogFields | undefined }[] = [];
  const at = (level: string) => (message: string, fields?: LogFields) => void lines.push({ level, message, fields });
  const log: Log = { error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug') };
  return { log, lines };
}
