import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { statusScreen } from '../../src/cli/status-screen.ts';
import type { StatusReport } from '../../src/control/index.ts';
import { KEY, STATUS } from '../control/fakes.ts';

const NOW = new Date('2026-08-02T12:03:04.000Z');

describe('the status screen', () => {
  it('shows a service that is well', () => {
    assert.deepEqual(statusScreen(STATUS, false, NOW).split('\n'), [
      'kms-plugin 1.0.0, process 4711, up 1 d 2 h (since 2026-08-01 10:00:00 UTC)',
      '/etc/kms-plugin.yml, log level info',
      '',
      'state       ready, encrypting with key 00112233445566778899aabbccddeeff',
      'token       ready, since 2026-08-01 10:00:01 UTC',
      '            /usr/lib/softhsm/libsofthsm2.so (SoftHSM 2.6)',
      '            process 4712, 0 restarts',
      'listeners   credhub  /run/kms-plugin.sock  v1beta1, 1 connection, TLS until 2027-08-01',
      'keys        active   credhub-2026  00112233445566778899aabbccddeeff  AES-256  3 encrypted, 4 decrypted',
      'calls       0 in flight, 0 queued, 0 waiting for the token',
      '            last 5 min: 0 requests, no errors',
      '            last 60 min: 3 requests, 1 error (1 KMS-2001), p50 1.2 ms, p99 2012 ms, longest 2012 ms',
      '            since the start: v1beta1 Encrypt 3 OK',
    ]);
  });

  it('shows data keys where there are any', () => {
    const dataKeys = { cached: 12, hits: 345, misses: 6, made: 7 };
    const line = 'data keys   12 cached, 7 made; Decrypt found 345 and had the HSM open 6';
    assert.ok(
      statusScreen({ ...STATUS, dataKeys }, false, NOW)
        .split('\n')
        .includes(line),
    );
    const reused = { ...dataKeys, encryptsUntil: '2026-08-02T13:00:00.000Z' };
    const lines = statusScreen({ ...STATUS, dataKeys: reused }, false, NOW).split('\n');
    assert.deepEqual(lines.slice(lines.indexOf(line)), [
      line,
      '            the current one lasts until 2026-08-02 13:00:00 UTC, with or without the HSM',
    ]);
  });

  it('shows each trouble', () => {
    const troubled: StatusReport = {
      ...STATUS,
      health: {
        availability: 'away',
        ok: false,
        reason: 'CKR_DEVICE_REMOVED',
        activeKeyId: undefined,
        activeKeyGone: false,
        servesCached: false,
      },
      token: {
        ...STATUS.token,
        state: 'away',
        reason: 'partition "credhub": CKR_DEVICE_REMOVED',
        lastError: { at: '2026-08-02T12:02:04.000Z', message: 'CKR_DEVICE_ERROR' },
      },
      keys: [KEY, { label: 'old', state: 'decrypt', encryptedHere: false, found: [], problem: 'not on the token' }],
      listeners: STATUS.listeners.map((each) => ({ ...each, certificateExpires: '2026-08-10T00:00:00.000Z' })),
      warnings: ['create: true is left in'],
      lastReload: {
        at: '2026-08-02T11:00:00.000Z',
        ok: false,
        problems: ['keys is missing'],
        taken: [],
        warnings: [],
        needsRestart: ['token.module'],
      },
    };
    const screen = statusScreen(troubled, false, NOW);
    for (const part of [
      'not ready: CKR_DEVICE_REMOVED',
      'away: partition "credhub": CKR_DEVICE_REMOVED',
      'last error 1 min ago: CKR_DEVICE_ERROR',
      'decrypt  old  not on the token',
      'TLS until 2026-08-10: 7 d 11 h left',
      'failed at 2026-08-02 11:00:00 UTC; the old configuration goes on',
      'keys is missing',
      'token.module takes effect only after a restart',
      'warnings    create: true is left in',
    ]) {
      assert.ok(screen.includes(part), `${part}\n${screen}`);
    }
    const same = { ...troubled.health, reason: troubled.token.reason };
    const lastError = { at: '2026-08-02T12:02:04.000Z', message: troubled.token.reason };
    const repeated = statusScreen({ ...troubled, health: same, token: { ...troubled.token, lastError } }, false, NOW);
    assert.equal(repeated.split(troubled.token.reason).length, 2, 'a reason is said once');
    assert.match(repeated, /^token +away: see above, since .*[^]*last error 1 min ago, the same$/m);
    const expired = troubled.listeners.map((each) => ({ ...each, certificateExpires: '2026-08-02T00:00:00.000Z' }));
    assert.match(statusScreen({ ...troubled, listeners: expired }, false, NOW), /the certificate has run out/);
  });

  it('has colour only where asked', () => {
    assert.doesNotMatch(statusScreen(STATUS, false, NOW), /\u001b/);
    assert.match(statusScreen(STATUS, true, NOW), /\u001b\[32mready\u001b\[0m/);
  });
});
