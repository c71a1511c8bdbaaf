/** Every alert of docs/monitoring: silent while all is well, firing after what it is about has happened (promtool). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';
import { parse, stringify } from 'yaml';

const rulesFile = path.resolve(import.meta.dirname, '../../docs/monitoring/alerts.yml');
const DAY_MINUTES = 24 * 60;

/** All is well for ten minutes, then it is not. */
interface Case {
  /** Series and their values, one each minute, in promtool's notation. */
  readonly series: Readonly<Record<string, string>>;
  /** Minutes after which it must fire; until the tenth it must not. */
  readonly firesAt: number;
  /** Alerts that fire; 1 unless told. */
  readonly alerts?: number;
}

const turnsTo = (good: number, bad: number): string => `${good}x9 ${bad}x2000`;
/** A counter that stands still, then rises by so much each minute. */
const rises = (each: number): string => `0x9 ${each}+${each}x200`;
const certificate = (days: number): string => `${days * DAY_MINUTES * 60 + 600}x200`;
const failures = (code: string): string => `kms_plugin_failures_total{instance="a",code="${code}"}`;
const calls = (status: string): string => `kms_plugin_calls_total{instance="a",method="Decrypt",status="${status}"}`;
const bucket = (le: string): string =>
  `kms_plugin_call_duration_seconds_bucket{instance="a",method="Decrypt",result="ok",le="${le}"}`;
const key = '{instance="a",key="credhub-2026",state="active"}';

const CASES: Readonly<Record<string, Case>> = {
  KmsPluginDown: { series: { 'up{job="kms-plugin",instance="a"}': turnsTo(1, 0) }, firesAt: 13 },
  KmsPluginNotReady: { series: { 'kms_plugin_ready{instance="a"}': turnsTo(1, 0) }, firesAt: 12 },
  KmsPluginNotLive: { series: { 'kms_plugin_live{instance="a"}': turnsTo(1, 0) }, firesAt: 12 },
  KmsPluginPinRefused: {
    series: { 'kms_plugin_token_state{instance="a",state="refused"}': turnsTo(0, 1) },
    firesAt: 11,
  },
  KmsPluginPinAtRisk: {
    series: {
      'kms_plugin_token_pin_flag{instance="a",flag="count_low"}': turnsTo(0, 1),
      'kms_plugin_token_pin_flag{instance="a",flag="locked"}': turnsTo(0, 0),
    },
    firesAt: 11,
  },
  // One call in fifty fails; what CredHub asks for at its start does not count.
  KmsPluginCallsFail: {
    series: {
      [calls('OK')]: '0+490x200',
      [calls('INVALID_ARGUMENT')]: '0+1000x9 10000x200',
      [calls('UNAVAILABLE')]: rises(10),
    },
    firesAt: 22,
  },
  KmsPluginSlow: {
    series: {
      [bucket('1')]: '0+100x9 1000+90x200',
      [bucket('2')]: '0+100x200',
      [bucket('+Inf')]: '0+100x200',
    },
    firesAt: 25,
  },
  KmsPluginQueueFull: { series: { [failures('KMS-5005')]: turnsTo(0, 3) }, firesAt: 11 },
  KmsPluginKeyMissing: {
    series: {
      [`kms_plugin_keys_found${key}`]: turnsTo(1, 0),
      'kms_plugin_token_state{instance="a",state="ready"}': turnsTo(1, 1),
      // Where the token is away nothing is known of its keys.
      'kms_plugin_keys_found{instance="b",key="credhub-2026",state="active"}': turnsTo(1, 0),
      'kms_plugin_token_state{instance="b",state="ready"}': turnsTo(0, 0),
    },
    firesAt: 13,
  },
  KmsPluginKeyUnusable: { series: { [`kms_plugin_key_usable${key}`]: turnsTo(1, 0) }, firesAt: 13 },
  KmsPluginKeyTrouble: {
    series: { [failures('KMS-3001')]: turnsTo(0, 1), [failures('KMS-3007')]: turnsTo(0, 1) },
    firesAt: 11,
    alerts: 2,
  },
  KmsPluginTampered: { series: { [failures('KMS-4004')]: turnsTo(0, 1) }, firesAt: 11 },
  KmsPluginInternalError: {
    series: { [failures('KMS-2008')]: turnsTo(0, 1), [failures('KMS-9001')]: turnsTo(0, 1) },
    firesAt: 11,
    alerts: 2,
  },
  KmsPluginTokenProcessRestarts: {
    series: { 'kms_plugin_token_process_restarts_total{instance="a"}': rises(1) },
    firesAt: 16,
  },
  KmsPluginCertificateExpires: {
    series: { 'kms_plugin_tls_certificate_expiry_timestamp_seconds{instance="a",listener="credhub"}': certificate(21) },
    firesAt: 11,
  },
  KmsPluginCertificateExpiresSoon: {
    series: { 'kms_plugin_tls_certificate_expiry_timestamp_seconds{instance="a",listener="credhub"}': certificate(3) },
    firesAt: 11,
  },
  // No host alone has used as many.
  KmsPluginRotateKey: {
    series: Object.fromEntries(
      ['a', 'b'].map((instance) => [
        `kms_plugin_key_ivs_used_total{instance="${instance}",key="credhub-2026",key_id="1b2e"}`,
        turnsTo(0, 0.6 * 2 ** 30),
      ]),
    ),
    firesAt: 11,
  },
  KmsPluginReloadFailed: {
    series: { 'kms_plugin_config_last_reload_successful{instance="a"}': turnsTo(1, 0) },
    firesAt: 11,
  },
  KmsPluginRestartNeeded: { series: { 'kms_plugin_config_needs_restart{instance="a"}': turnsTo(0, 2) }, firesAt: 71 },
  KmsPluginAuditLinesLost: {
    series: { 'kms_plugin_audit_lines_total{instance="a",result="lost"}': turnsTo(0, 5) },
    firesAt: 11,
  },
  KmsPluginBusy: {
    series: { 'kms_plugin_event_loop_active_seconds_total{instance="a"}': '0+20x9 200+58x200' },
    firesAt: 26,
  },
  KmsPluginWarnings: { series: { 'kms_plugin_warnings{instance="a"}': turnsTo(0, 1) }, firesAt: DAY_MINUTES + 11 },
};

describe('docs/monitoring/alerts.yml', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'alerts-'));
  after(() => rmSync(directory, { recursive: true }));
  const promtool = (...args: string[]) => spawnSync('promtool', args, { cwd: directory, encoding: 'utf8' });

  it('is what Prometheus takes', () => {
    const { status, stderr } = promtool('check', 'rules', '--lint-fatal', rulesFile);
    assert.deepEqual([status, stderr], [0, '']);
  });

  it('has a case here for each alert', () => {
    const { groups } = parse(readFileSync(rulesFile, 'utf8')) as { groups: { rules: { alert: string }[] }[] };
    assert.deepEqual(
      groups.flatMap(({ rules }) => rules.map(({ alert }) => alert)),
      Object.keys(CASES),
    );
  });

  copyFileSync(rulesFile, path.join(directory, 'alerts.yml'));
  for (const [alert, { series, firesAt, alerts = 1 }] of Object.entries(CASES)) {
    it(`fires ${alert}, and not before`, () => {
      const firing = `count(ALERTS{alertname="${alert}",alertstate="firing"})`;
      const file = path.join(directory, `${alert}.yml`);
      writeFileSync(
        file,
        stringify({
          rule_files: ['alerts.yml'],
          evaluation_interval: '1m',
          tests: [
            {
              interval: '1m',
              input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
              promql_expr_test: [
                { expr: firing, eval_time: '9m', exp_samples: [] },
                { expr: firing, eval_time: `${firesAt}m`, exp_samples: [{ labels: '{}', value: alerts }] },
              ],
            },
          ],
        }),
      );
      const { status, stdout, stderr } = promtool('test', 'rules', file);
      assert.equal(status, 0, stdout + stderr);
    });
  }
});
