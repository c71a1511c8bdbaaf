import { oneHot, seconds, type Family } from './family.ts';
import type { Snapshot } from './snapshot.ts';

const TOKEN_STATES = ['starting', 'ready', 'away', 'refused'] as const;
const BREAKER_STATES = ['closed', 'half_open', 'open'] as const;

/** CKF_USER_PIN_… flags (PKCS#11 3.1, section 3.2) as the token's report has them. */
const PIN_FLAGS = { count_low: 'user PIN count low', final_try: 'user PIN final try', locked: 'user PIN locked' };

/** The HSM's partition and the process that holds its module. */
export const TOKEN_FAMILIES: readonly Family<Snapshot>[] = [
  {
    name: 'kms_plugin_token_state',
    type: 'gauge',
    help: '1 for the state that holds: starting, ready, away, or refused (the PIN, until an operator acts).',
    labels: ['state'],
    rows: ({ status }) => oneHot(TOKEN_STATES, status.token.state),
  },
  {
    name: 'kms_plugin_breaker_state',
    type: 'gauge',
    help: '1 for the state that holds. closed: calls go to the HSM; half_open: they wait for an attempt to reach it; open: they fail at once.',
    labels: ['state'],
    rows: (snapshot) => oneHot(BREAKER_STATES, breakerState(snapshot)),
  },
  {
    name: 'kms_plugin_token_last_success_timestamp_seconds',
    type: 'gauge',
    help: 'When the HSM gave its last good answer.',
    rows: ({ status }) => [[{}, seconds(status.token.lastGood)]],
  },
  {
    name: 'kms_plugin_token_pin_flag',
    type: 'gauge',
    help: '1 when the token says so of its PIN: count_low (a wrong one was given), final_try, locked.',
    labels: ['flag'],
    rows: ({ status: { token } }) =>
      Object.entries(PIN_FLAGS).map(([flag, name]) => [{ flag }, Number(token.token?.flags.includes(name) === true)]),
  },
  {
    name: 'kms_plugin_token_sessions',
    type: 'gauge',
    help: 'PKCS#11 sessions that are open.',
    rows: ({ status }) => [[{}, status.token.sessions?.open]],
  },
  {
    name: 'kms_plugin_token_sessions_limit',
    type: 'gauge',
    help: 'PKCS#11 sessions that may be open: token.sessions, or what the token allows.',
    rows: ({ status }) => [[{}, status.token.sessions?.limit]],
  },
  {
    name: 'kms_plugin_token_info',
    type: 'gauge',
    help: 'The token as it describes itself; always 1.',
    labels: ['label', 'serial', 'manufacturer', 'model', 'firmware', 'profile'],
    rows: ({ status: { token: report } }) => {
      if (report.token === undefined) return [];
      const { label, serial, manufacturer, model, firmware } = report.token;
      return [[{ label, serial, manufacturer, model, firmware, profile: report.profile ?? '' }, 1]];
    },
  },
  {
    name: 'kms_plugin_token_process_restarts_total',
    type: 'counter',
    help: 'Token processes that had to have a successor: crashed, or hung and killed.',
    rows: ({ status }) => [[{}, status.token.process.restarts]],
  },
  {
    name: 'kms_plugin_token_process_replacements_total',
    type: 'counter',
    help: 'Token processes replaced on purpose while the token was away, since some modules notice its return only in a new one.',
    rows: ({ status }) => [[{}, status.token.process.replaced]],
  },
];

/** An absence is hidden for limits.hide: until then calls wait for the attempts to reach the token. */
function breakerState({ status: { token }, limits }: Snapshot): (typeof BREAKER_STATES)[number] {
  switch (token.state) {
    case 'ready':
      return 'closed';
    case 'starting':
      return 'half_open';
    case 'away':
      return Date.now() - Date.parse(token.since) < limits.hideMs ? 'half_open' : 'open';
    case 'refused':
      return 'open';
  }
}
