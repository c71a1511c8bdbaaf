/** Where on the way to the HSM it stops, as the token's report has it for operators. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TokenReport, TokenStage } from '../../src/token/index.ts';
import type { Faults } from '../module/index.ts';
import { Bench, type Host, type Wishes } from './support/installation.ts';

let bench: Bench;

before(async () => {
  bench = await Bench.make();
});
afterEach(() => bench.reset());
after(() => bench.cleanup());

/** The report as soon as its reason is this one. */
async function saying(host: Host, reason: RegExp): Promise<TokenReport> {
  const until = performance.now() + 20_000;
  for (;;) {
    const report = host.token.report();
    if (reason.test(report.reason)) return report;
    if (performance.now() > until) throw new Error(`another reason: ${report.reason}`);
    await sleep(10);
  }
}

describe('it stops at', () => {
  interface Case {
    readonly what: string;
    readonly stage: TokenStage;
    readonly reason: RegExp;
    readonly faults?: Faults;
    readonly wishes?: () => Wishes;
  }

  const cases: readonly Case[] = [
    {
      what: 'a module that ends its process again and again',
      stage: 'token process',
      reason: /keeps ending the token process/,
      faults: { rules: [{ on: 'C_Initialize', crash: 'segv' }] },
    },
    {
      what: 'a program that the kernel refuses to start',
      stage: 'token process',
      reason: /cannot be started/,
      wishes: () => ({ token: { environment: { HUGE: 'x'.repeat(4_000_000) } } }),
    },
    {
      what: 'a library that is no module',
      stage: 'module',
      reason: /dlopen/,
      wishes: () => ({ token: { module: '/lib/x86_64-linux-gnu/libm.so.6' } }),
    },
    {
      what: 'C_Initialize that fails',
      stage: 'module',
      reason: /C_Initialize answered CKR_GENERAL_ERROR/,
      faults: { rules: [{ on: 'C_Initialize', answer: 'CKR_GENERAL_ERROR' }] },
    },
    { what: 'a token that is out', stage: 'token', reason: /CKR_TOKEN_NOT_PRESENT/, faults: { removed: {} } },
    {
      what: 'a session that does not open',
      stage: 'token',
      reason: /C_OpenSession answered/,
      faults: { rules: [{ on: 'C_OpenSession', answer: 'CKR_DEVICE_ERROR' }] },
    },
    {
      what: 'a login that fails',
      stage: 'login',
      reason: /C_Login answered CKR_DEVICE_ERROR/,
      faults: { rules: [{ on: 'C_Login', answer: 'CKR_DEVICE_ERROR' }] },
    },
    {
      what: 'a PIN that is locked',
      stage: 'login',
      reason: /has locked its user PIN/,
      faults: { tokenInfo: { set: ['CKF_USER_PIN_LOCKED'] } },
    },
    {
      what: 'a PIN file that is not there',
      stage: 'login',
      reason: /pin_file .*none: there is no such file/,
      wishes: () => ({ token: { pinFile: path.join(bench.hsm.directory, 'none') } }),
    },
    {
      what: 'a PIN that is refused',
      stage: 'login',
      reason: /CKR_PIN_INCORRECT/,
      wishes: () => {
        const pinFile = path.join(bench.hsm.directory, 'wrong-pin');
        writeFileSync(pinFile, '000000', { mode: 0o600 });
        return { token: { pinFile } };
      },
    },
  ];

  for (const { what, stage, reason, faults, wishes } of cases) {
    test(`the ${stage}: ${what}`, async () => {
      bench.faulty.control(faults ?? {});
      const host = bench.host(wishes?.());
      assert.equal((await saying(host, reason)).stage, stage);
    });
  }
});

test('nowhere when it is ready, also after a loss that a fresh process got over', async () => {
  const host = await bench.readyHost();
  assert.equal(host.token.report().stage, undefined);
  bench.faulty.control({ removed: {} });
  const first = host.token.report().process.pid;
  await host.encrypt(Buffer.alloc(1), 1_000).catch(() => undefined);
  while (host.token.report().process.replaced === 0) await sleep(10);
  assert.equal(host.token.report().process.restarts, 0, 'ended on purpose is no crash');
  // What the successor says at first is no news: the reason of before stands, and its stage with it.
  await saying(host, /CKR_/);
  assert.equal(host.token.report().stage, 'token');
  bench.faulty.control({});
  await host.ready();
  assert.notEqual(host.token.report().process.pid, first);
  assert.equal(host.token.report().stage, undefined);
});
