import { versions } from '../version/index.ts';
import type { Facts } from './facts.ts';
import { CHECKS } from './registry.ts';
import { paceInWords } from './look/pace.ts';
import { failure, warning, type Check, type Diagnosis, type Finding, type Line, type Verdict } from './types.ts';
import { AGAIN } from './words.ts';

/**
 * Walks the way of a request from outside in and tells at each stop what was seen and what to do. Changes nothing, needs
 * no service, and ends when the facts' time is over, whatever hangs: what is late by then is reported as such.
 */
export async function diagnose(facts: Facts): Promise<Diagnosis> {
  const { configFile, around, ends } = facts;
  await facts.begun();
  const found = await Promise.all(CHECKS.map(async (check) => named(check, await findings(check, facts, ends))));
  const lines = settled(found.flat());
  return {
    at: around.now().toISOString(),
    version: versions().program,
    configFile,
    verdict: worst(lines.map(({ verdict }) => verdict)),
    lines,
    slowness: Math.round(facts.slowness * 10) / 10,
    durationMs: Math.round(performance.now() - facts.began),
  };
}

async function findings(check: Check, facts: Facts, ends: number): Promise<readonly Finding[]> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<readonly Finding[]>((resolve) => {
    const milliseconds = Math.max(0, ends - performance.now());
    timer = setTimeout(() => resolve([inTime(facts)]), milliseconds);
  });
  try {
    return await Promise.race([late, check.run(facts)]);
  } catch (error) {
    const seen = `this look failed itself: ${(error as Error).message}`;
    return [failure(seen, 'report it with the output of kms-plugin doctor --json')];
  } finally {
    clearTimeout(timer);
  }
}

/** On a slow host a look that did not end proves nothing. */
function inTime(facts: Facts): Finding {
  const seen = 'this look did not end in time';
  if (facts.isSlow) return warning(`${seen}: this host is ${paceInWords(facts.slowness)}`, AGAIN);
  return failure(seen, { first: 'something hangs: mend what fails above', alone: AGAIN });
}

interface Named {
  readonly check: string;
  readonly finding: Finding;
}

const named = ({ name }: Check, found: readonly Finding[]): Named[] =>
  found.map((finding) => ({ check: name, finding }));

/** Chooses the mends that depend on whether anything above fails. */
function settled(all: readonly Named[]): Line[] {
  let failsAbove = false;
  return all.map(({ check, finding: { verdict, seen, mend } }) => {
    const chosen = typeof mend === 'object' ? (failsAbove ? mend.first : mend.alone) : mend;
    failsAbove ||= verdict === 'failure';
    return { check, verdict, seen, ...(chosen === undefined ? {} : { mend: chosen }) };
  });
}

function worst(verdicts: readonly Verdict[]): Verdict {
  if (verdicts.includes('failure')) return 'failure';
  return verdicts.includes('warning') ? 'warning' : 'ok';
}
