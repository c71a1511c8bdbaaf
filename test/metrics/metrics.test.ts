/** What the metrics page says, call by call and state by state. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import type { FinishedCall } from '../../src/api/index.ts';
import { FAILURES } from '../../src/errors/index.ts';
import { createMetrics, type Metrics, type Snapshot } from '../../src/metrics/index.ts';
import { KEY, STATUS } from '../control/fakes.ts';
import { LIMITS, listenerAt } from '../api/support/fixture.ts';
import { readPage, valueOf } from './page.ts';

const KEY_ID = '00112233445566778899aabbccddeeff';
const call = (changes: Partial<FinishedCall> = {}): FinishedCall => ({
  api: 'v2',
  method: 'Decrypt',
  listener: 'test',
  status: 'OK',
  code: undefined,
  durationMs: 3,
  requestBytes: 86,
  responseBytes: 32,
  keyId: KEY_ID,
  uid: undefined,
  ...changes,
});

const snapshot = (changes: Partial<Snapshot> = {}): Snapshot => ({
  versions: { program: '1.0.0', grpc: '1.14.7', node: '24.0.0' },
  status: STATUS,
  live: true,
  ready: true,
  limits: LIMITS,
  dataKeys: { cached: 1, hits: 2, misses: 3, made: 4 },
  ivCount: () => 5,
  probes: { answered: 6, failed: 7 },
  audit: undefined,
  ...changes,
});

const make = (): Metrics => createMetrics([listenerAt('/run/test.sock')]);
const pageOf = async (metrics: Metrics, changes: Partial<Snapshot> = {}) =>
  readPage(await metrics.page(snapshot(changes)));

describe('metrics of calls', () => {
  it('count each by API, method, listener and status, and its failure by code', async () => {
    const metrics = make();
    metrics.calls.finished(call());
    metrics.calls.finished(call());
    metrics.calls.finished(call({ api: 'v1beta1', method: 'Encrypt', status: 'UNAVAILABLE', code: 'KMS-2001' }));
    const page = await pageOf(metrics);
    const calls = 'kms_plugin_calls_total';
    assert.equal(valueOf(page, calls, { api: 'v2', method: 'Decrypt', listener: 'test', status: 'OK' }), 2);
    assert.equal(valueOf(page, calls, { api: 'v1beta1', method: 'Encrypt', status: 'UNAVAILABLE' }), 1);
    assert.equal(valueOf(page, calls, { api: 'v1beta1', method: 'Encrypt', status: 'OK' }), 0);
    assert.equal(valueOf(page, 'kms_plugin_failures_total', { code: 'KMS-2001', kind: 'token-away' }), 1);
    assert.equal(valueOf(page, 'kms_plugin_request_bytes_total', { api: 'v2', method: 'Decrypt' }), 172);
    assert.equal(valueOf(page, 'kms_plugin_response_bytes_total', { api: 'v2', method: 'Decrypt' }), 64);
  });

  it('show what has not happened yet as 0, so that the first failure is an increase', async () => {
    const page = await pageOf(make());
    for (const { code } of Object.values(FAILURES)) {
      assert.equal(valueOf(page, 'kms_plugin_failures_total', { code }), 0);
    }
    for (const api of ['v1beta1', 'v2']) {
      for (const method of ['Encrypt', 'Decrypt']) {
        const of = { api, method, listener: 'test', status: 'INTERNAL' };
        assert.equal(valueOf(page, 'kms_plugin_calls_total', of), 0);
      }
    }
  });

  it('put latencies into buckets of half a millisecond to ten seconds, failures apart', async () => {
    const metrics = make();
    for (const durationMs of [0.2, 3, 3, 900, 60_000]) metrics.calls.finished(call({ durationMs }));
    metrics.calls.finished(call({ durationMs: 10_001, status: 'DEADLINE_EXCEEDED', code: 'KMS-5006' }));
    const page = await pageOf(metrics);
    const name = 'kms_plugin_call_duration_seconds';
    const upTo = (le: string, result = 'ok') => valueOf(page, `${name}_bucket`, { api: 'v2', le, result });
    assert.deepEqual(
      ['0.0005', '0.002', '0.005', '0.5', '1', '10', '+Inf'].map((le) => upTo(le)),
      [1, 1, 3, 3, 4, 4, 5],
    );
    assert.deepEqual([upTo('10', 'failed'), upTo('+Inf', 'failed')], [0, 1]);
    assert.equal(valueOf(page, `${name}_count`, { result: 'ok' }), 5);
    const sum = valueOf(page, `${name}_sum`, { result: 'ok' }) ?? 0;
    assert.ok(Math.abs(sum - 60.9062) < 1e-9);
  });

  it('leave out how long a client has watched health', async () => {
    const metrics = make();
    metrics.calls.finished(call({ api: 'health', method: 'Watch', durationMs: 3_600_000 }));
    const page = await pageOf(metrics);
    assert.equal(valueOf(page, 'kms_plugin_calls_total', { api: 'health', method: 'Watch' }), 1);
    assert.equal(valueOf(page, 'kms_plugin_call_duration_seconds_count', { api: 'health' }), undefined);
  });

  it('do not grow with what requests bring', async () => {
    const metrics = make();
    const lines = async (): Promise<number> => (await metrics.page(snapshot())).split('\n').length;
    metrics.calls.finished(call());
    const before = await lines();
    for (let number = 0; number < 5_000; number++) {
      const keyId = number.toString(16).padStart(32, '0');
      metrics.calls.finished(call({ uid: `uid-${number}`, keyId, requestBytes: number, durationMs: number }));
    }
    assert.equal(await lines(), before);
  });
});

describe('metrics of states', () => {
  const token = (changes: Partial<Snapshot['status']['token']>) => ({
    status: { ...STATUS, token: { ...STATUS.token, ...changes } },
  });
  const state = async (name: string, changes: Partial<Snapshot>) =>
    [...(await pageOf(make(), changes)).values()]
      .find((metric) => metric.name === name)
      ?.series.filter(({ value }) => value === 1)
      .map(({ labels }) => labels['state']);

  it('show one state of the token and of the breaker', async () => {
    const now = new Date().toISOString();
    const before = new Date(Date.now() - LIMITS.hideMs - 1).toISOString();
    const cases = [
      ['ready', before, 'closed'],
      ['starting', before, 'half_open'],
      ['away', now, 'half_open'],
      ['away', before, 'open'],
      ['refused', now, 'open'],
    ] as const;
    for (const [tokenState, since, breaker] of cases) {
      const changes = token({ state: tokenState, since });
      assert.deepEqual(await state('kms_plugin_token_state', changes), [tokenState]);
      assert.deepEqual(await state('kms_plugin_breaker_state', changes), [breaker]);
    }
  });

  it("show the token's PIN flags under the names that its process gives them", async () => {
    const facts = { slot: '1', label: 'a "label"\\', serial: '1', manufacturer: 'm', model: 'm', firmware: '1.0' };
    const flags = ['initialized', 'user PIN count low', 'user PIN locked'];
    const page = await pageOf(make(), token({ token: { ...facts, flags } }));
    // The token process has the names in its table of flags.
    const details = readFileSync(path.resolve(import.meta.dirname, '../../src/token/process/state-details.ts'), 'utf8');
    for (const name of flags) assert.ok(details.includes(`'${name}'`), name);
    const flag = (name: string) => valueOf(page, 'kms_plugin_token_pin_flag', { flag: name });
    assert.deepEqual([flag('count_low'), flag('final_try'), flag('locked')], [1, 0, 1]);
    assert.equal(valueOf(page, 'kms_plugin_token_info', { label: 'a \\"label\\"\\\\' }), 1);
  });

  it('forget keys that have left the configuration, and what is not known is not there', async () => {
    const metrics = make();
    const other = { ...KEY, label: 'other', found: [] };
    const both = await pageOf(metrics, { status: { ...STATUS, keys: [KEY, other] } });
    assert.equal(valueOf(both, 'kms_plugin_keys_found', { key: 'other' }), 0);
    const one = await pageOf(metrics);
    assert.equal(valueOf(one, 'kms_plugin_keys_found', { key: 'other' }), undefined);
    assert.equal(valueOf(one, 'kms_plugin_key_operations_total', { operation: 'encrypt', key_id: KEY_ID }), 3);
    assert.equal(valueOf(one, 'kms_plugin_key_ivs_used_total', { key_id: KEY_ID }), 5);
    for (const name of ['kms_plugin_token_sessions', 'kms_plugin_token_last_success_timestamp_seconds']) {
      assert.deepEqual(one.get(name)?.series, [], name);
    }
    assert.deepEqual(one.get('kms_plugin_audit_lines_total')?.series, []);
  });

  it('show counters as they stand, however often they are asked for', async () => {
    const metrics = make();
    for (let scrape = 0; scrape < 3; scrape++) {
      const page = await pageOf(metrics, { audit: { written: 10, lost: 2 } });
      assert.equal(valueOf(page, 'kms_plugin_data_keys_made_total'), 4);
      assert.equal(valueOf(page, 'kms_plugin_probes_total', { result: 'failed' }), 7);
      assert.equal(valueOf(page, 'kms_plugin_audit_lines_total', { result: 'lost' }), 2);
    }
  });

  it('show the last reload, and a listener without TLS has no certificate', async () => {
    const lastReload = {
      at: '2026-08-01T12:00:00.000Z',
      ok: false,
      problems: ['x'],
      taken: [],
      warnings: [],
      needsRestart: ['a', 'b'],
    };
    const [listener] = STATUS.listeners;
    assert.ok(listener);
    const { endpoint, apis, connections } = listener;
    const plain = { name: 'plain', endpoint, apis, connections, tls: false };
    const page = await pageOf(make(), { status: { ...STATUS, listeners: [listener, plain], lastReload } });
    assert.equal(valueOf(page, 'kms_plugin_config_last_reload_successful'), 0);
    assert.equal(valueOf(page, 'kms_plugin_config_last_reload_timestamp_seconds'), Date.parse(lastReload.at) / 1000);
    assert.equal(valueOf(page, 'kms_plugin_config_needs_restart'), 2);
    assert.deepEqual(
      page.get('kms_plugin_tls_certificate_expiry_timestamp_seconds')?.series.map(({ labels }) => labels['listener']),
      ['credhub'],
    );
  });

  it("have the token process's memory and processor time while it runs", async () => {
    const running = await pageOf(
      make(),
      token({ process: { pid: process.pid, restarts: 3, replaced: 5, started: undefined } }),
    );
    assert.ok((valueOf(running, 'kms_plugin_token_process_resident_memory_bytes') ?? 0) > 1_000_000);
    assert.ok((valueOf(running, 'kms_plugin_token_process_cpu_seconds_total') ?? 0) > 0);
    assert.equal(valueOf(running, 'kms_plugin_token_process_restarts_total'), 3);
    assert.equal(valueOf(running, 'kms_plugin_token_process_replacements_total'), 5);
    const gone = await pageOf(
      make(),
      token({ process: { pid: undefined, restarts: 3, replaced: 5, started: undefined } }),
    );
    assert.deepEqual(gone.get('kms_plugin_token_process_resident_memory_bytes')?.series, []);
    const ended = await pageOf(
      make(),
      token({ process: { pid: 2 ** 22 + 1, restarts: 3, replaced: 5, started: undefined } }),
    );
    assert.deepEqual(ended.get('kms_plugin_token_process_cpu_seconds_total')?.series, []);
  });
});
