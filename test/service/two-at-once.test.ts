import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { readFileSync, writeFileSync } from 'node:fs';
import { roundTrip } from '../../src/api/index.ts';
import { loadConfig, type ListenerConfig } from '../../src/config/index.ts';
import { makeInstallation, type Installation } from './installation.ts';
import { program, type Watched } from './processes.ts';

const ROUNDS = 50;

let installation: Installation;
let listener: ListenerConfig;
/** The same listeners, with a state_dir of its own. */
let other: string;

before(async () => {
  installation = await makeInstallation();
  const found = loadConfig(installation.config).listeners[1];
  assert.ok(found !== undefined);
  listener = found;
  other = installation.fixture.at('other.yml');
  const text = readFileSync(installation.config, 'utf8');
  writeFileSync(other, text.replace('state_dir: state', 'state_dir: other-state'));
});
const started: Watched[] = [];
after(async () => {
  for (const service of started) service.kill();
  await installation.cleanup();
});

/** Starts both at the same moment; gives the one that serves, after the other has ended with status 1. */
async function race(configs: readonly [string, string], round: number): Promise<Watched> {
  const both = configs.map((config) => program('serve', '--config', config));
  started.push(...both);
  const outcomes = await Promise.all(
    both.map((service) =>
      Promise.race([service.ended(), service.said(/^listening$/).then(() => 'serves')]).catch(() => service.ended()),
    ),
  );
  const said = both.map(({ stderr }) => stderr).join('\n');
  assert.deepEqual(outcomes.toSorted(), [1, 'serves'], `round ${round}: ${said}`);
  const winner = both[outcomes.indexOf('serves')];
  assert.ok(winner !== undefined);
  return winner;
}

/**
 * Kills it, and waits for its token process, which notices by itself: SoftHSM2 rewrites its token file at each login and
 * does not survive two processes that come and go at the same moment.
 */
async function killed(service: Watched): Promise<void> {
  const { pid } = await service.said(/^token process started$/);
  service.kill();
  await service.ended();
  while (isAlive(Number(pid))) await new Promise((resolve) => setTimeout(resolve, 5));
}

function isAlive(pid: number): boolean {
  try {
    // A process that has ended and that nobody has asked about yet is "Z".
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

async function answers(): Promise<void> {
  const plaintext = Buffer.from('one of two');
  const trip = await roundTrip(listener, { api: 'v1beta1', plaintext, deadlineMs: 5000 });
  assert.deepEqual(trip.plaintext, plaintext);
}

describe('two plugins started at once', () => {
  it(`on one state_dir: exactly one serves, ${ROUNDS} times, each after a kill -9`, async () => {
    for (let round = 1; round <= ROUNDS; round++) {
      const winner = await race([installation.config, installation.config], round);
      if (round % 10 === 0) await answers();
      await killed(winner);
    }
  });

  it('on one socket, each with a state_dir of its own: exactly one serves, 10 times', async () => {
    for (let round = 1; round <= 10; round++) {
      const winner = await race([installation.config, other], round);
      await answers();
      await killed(winner);
    }
  });
});
