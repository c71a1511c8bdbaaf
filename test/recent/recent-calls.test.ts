import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { FinishedCall } from '../../src/api/index.ts';
import { RecentCalls } from '../../src/recent/index.ts';

const MINUTE = 60_000;

function call(change: Partial<FinishedCall> = {}): FinishedCall {
  return {
    ...{ api: 'v2', method: 'Encrypt', listener: 'kubernetes', status: 'OK', code: undefined, durationMs: 2 },
    ...{ requestBytes: 32, responseBytes: 86, keyId: undefined, uid: undefined },
    ...change,
  };
}

function withClock(): { recent: RecentCalls; advance: (milliseconds: number) => void } {
  let now = 12 * MINUTE + 1;
  return { recent: new RecentCalls(() => now), advance: (milliseconds) => void (now += milliseconds) };
}

describe('the last 5 and 60 minutes', () => {
  it('have no latencies before the first call', () => {
    const { last5, last60 } = withClock().recent.report();
    assert.deepEqual(last5, { minutes: 1, requests: 0, errors: 0, errorCodes: [] });
    assert.deepEqual(last60, last5);
  });

  it('count requests, errors by code, and latencies', () => {
    const { recent } = withClock();
    for (let at = 0; at < 98; at++) recent.finished(call({ durationMs: 2 }));
    recent.finished(call({ durationMs: 2_000, status: 'UNAVAILABLE', code: 'KMS-2001' }));
    recent.finished(call({ method: 'Decrypt', durationMs: 4_000, status: 'UNAVAILABLE', code: 'KMS-2001' }));
    recent.finished(call({ durationMs: 1, status: 'CANCELLED', code: 'KMS-5007' }));
    const { last5 } = recent.report();
    assert.equal(last5.requests, 101);
    assert.equal(last5.errors, 3);
    assert.deepEqual(last5.errorCodes, [
      { code: 'KMS-2001', count: 2 },
      { code: 'KMS-5007', count: 1 },
    ]);
    const { p50Ms = 0, p99Ms = 0, maxMs } = last5;
    assert.ok(p50Ms >= 2 && p50Ms <= 2.3, String(p50Ms));
    assert.ok(p99Ms >= 2_000 && p99Ms <= 2_250, String(p99Ms));
    assert.equal(maxMs, 4_000);
  });

  it('name the keys that failed calls asked for, and bound their number', () => {
    const { recent, advance } = withClock();
    const ask = (keyId: string): void =>
      recent.finished(call({ method: 'Decrypt', status: 'FAILED_PRECONDITION', code: 'KMS-3001', keyId }));
    for (const keyId of ['a', 'b', 'a']) ask(keyId);
    advance(MINUTE);
    ask('b');
    assert.deepEqual(recent.report().last5.errorCodes, [{ code: 'KMS-3001', count: 4, keyIds: ['a', 'b'] }]);
    for (let at = 0; at < 1_000; at++) ask(String(at));
    assert.equal(recent.report().last5.errorCodes[0]?.keyIds?.length, 8);
  });

  it('count foreign ciphertexts, which CredHub asks about at every start, as no error', () => {
    const { recent } = withClock();
    recent.finished(call({ method: 'Decrypt', status: 'INVALID_ARGUMENT', code: 'KMS-4001' }));
    const { requests, errors, errorCodes, foreign } = recent.report().last60;
    assert.deepEqual({ requests, errors, errorCodes, foreign }, { requests: 1, errors: 0, errorCodes: [], foreign: 1 });
  });

  it('leave out what needs no HSM', () => {
    const { recent } = withClock();
    for (const method of ['Status', 'Version', 'Check', 'Watch']) recent.finished(call({ method }));
    assert.equal(recent.report().last60.requests, 0);
  });

  it('forget, the first after 5 minutes, the second after 60', () => {
    const { recent, advance } = withClock();
    recent.finished(call());
    advance(5 * MINUTE - 2);
    assert.equal(recent.report().last5.requests, 1);
    advance(MINUTE + 2);
    assert.equal(recent.report().last5.requests, 0);
    recent.finished(call({ status: 'INTERNAL', code: 'KMS-9001' }));
    assert.deepEqual([recent.report().last60.requests, recent.report().last5.requests], [2, 1]);
    advance(54 * MINUTE);
    assert.equal(recent.report().last60.requests, 2);
    advance(MINUTE);
    assert.equal(recent.report().last60.requests, 1);
    advance(100 * MINUTE);
    assert.deepEqual(recent.report().last60, { minutes: 60, requests: 0, errors: 0, errorCodes: [] });
    recent.finished(call());
    assert.equal(recent.report().last60.requests, 1);
  });

  it('take any duration', () => {
    const { recent } = withClock();
    for (const durationMs of [0, 1e-9, 1e9]) recent.finished(call({ durationMs }));
    const { p50Ms = -1, p99Ms, maxMs } = recent.report().last5;
    assert.ok(p50Ms >= 0 && p50Ms <= 0.1);
    assert.equal(maxMs, 1e9);
    assert.ok((p99Ms ?? 0) > 10_000);
  });
});
