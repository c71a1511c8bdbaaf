import type { Family } from './family.ts';
import { seconds } from './family.ts';
import type { Snapshot } from './snapshot.ts';

/** What the service is and how it fares: health, listeners, queues, configuration. */
export const SERVICE_FAMILIES: readonly Family<Snapshot>[] = [
  {
    name: 'kms_plugin_build_info',
    type: 'gauge',
    help: 'The running versions; always 1.',
    labels: ['version', 'node', 'grpc'],
    rows: ({ versions: { program, node, grpc } }) => [[{ version: program, node, grpc }, 1]],
  },
  {
    name: 'kms_plugin_live',
    type: 'gauge',
    help: 'What /healthz/liveness answers: 1 unless a restart would help.',
    rows: ({ live }) => [[{}, Number(live)]],
  },
  {
    name: 'kms_plugin_ready',
    type: 'gauge',
    help: 'What /healthz/readiness answers: 1 when calls succeed.',
    rows: ({ ready }) => [[{}, Number(ready)]],
  },
  {
    name: 'kms_plugin_warnings',
    type: 'gauge',
    help: 'What kms-plugin status shows under warnings, in number.',
    rows: ({ status }) => [[{}, status.warnings.length]],
  },
  {
    name: 'kms_plugin_probes_total',
    type: 'counter',
    help: 'Known-answer calls to the HSM made for health because nobody else had asked it.',
    labels: ['result'],
    rows: ({ probes }) => [
      [{ result: 'ok' }, probes.answered],
      [{ result: 'failed' }, probes.failed],
    ],
  },
  {
    name: 'kms_plugin_connections',
    type: 'gauge',
    help: 'Open connections.',
    labels: ['listener'],
    rows: ({ status }) => status.listeners.map(({ name, connections }) => [{ listener: name }, connections]),
  },
  {
    name: 'kms_plugin_connections_refused_total',
    type: 'counter',
    help: 'Connections closed at once because limits.connections were open.',
    labels: ['listener'],
    rows: ({ status }) => status.listeners.map(({ name, refused }) => [{ listener: name }, refused]),
  },
  {
    name: 'kms_plugin_connections_limit',
    type: 'gauge',
    help: 'limits.connections, for each listener.',
    rows: ({ limits }) => [[{}, limits.connections]],
  },
  {
    name: 'kms_plugin_tls_certificate_expiry_timestamp_seconds',
    type: 'gauge',
    help: 'When the served certificate runs out.',
    labels: ['listener'],
    rows: ({ status }) =>
      status.listeners.map(({ name, certificateExpires }) => [{ listener: name }, seconds(certificateExpires)]),
  },
  {
    name: 'kms_plugin_calls_in_flight',
    type: 'gauge',
    help: 'Calls at work.',
    rows: ({ status }) => [[{}, status.calls.inFlight]],
  },
  {
    name: 'kms_plugin_calls_in_flight_limit',
    type: 'gauge',
    help: 'limits.in_flight.',
    rows: ({ limits }) => [[{}, limits.inFlight]],
  },
  {
    name: 'kms_plugin_calls_queued',
    type: 'gauge',
    help: 'Calls that wait for a place in flight.',
    rows: ({ status }) => [[{}, status.calls.queued]],
  },
  {
    name: 'kms_plugin_calls_queued_limit',
    type: 'gauge',
    help: 'limits.queued; what comes beyond it is refused (failures_total, KMS-5005).',
    rows: ({ limits }) => [[{}, limits.queued]],
  },
  {
    name: 'kms_plugin_calls_waiting',
    type: 'gauge',
    help: 'Calls of new connections that wait for the HSM or for a key.',
    rows: ({ status }) => [[{}, status.calls.waiting]],
  },
  {
    name: 'kms_plugin_config_last_reload_successful',
    type: 'gauge',
    help: '0 when the file was faulty at the last reload and the configuration before it goes on.',
    rows: ({ status }) => [[{}, Number(status.lastReload?.ok ?? true)]],
  },
  {
    name: 'kms_plugin_config_last_reload_timestamp_seconds',
    type: 'gauge',
    help: 'When the configuration file was read last: at the start, or at a reload.',
    rows: ({ status }) => [[{}, seconds(status.lastReload?.at ?? status.started)]],
  },
  {
    name: 'kms_plugin_config_needs_restart',
    type: 'gauge',
    help: 'Settings that have changed in the file and take effect only after a restart.',
    rows: ({ status }) => [[{}, status.lastReload?.needsRestart.length ?? 0]],
  },
  {
    name: 'kms_plugin_audit_lines_total',
    type: 'counter',
    help: 'Lines of the audit trail, while there is one.',
    labels: ['result'],
    rows: ({ audit }) => [
      [{ result: 'written' }, audit?.written],
      [{ result: 'lost' }, audit?.lost],
    ],
  },
];
