import { versions } from '../version/index.ts';
import type { Facts } from './facts.ts';
import { CHECKS } from './registry.ts';
import { failure, type Check, type Diagnosis, type Line, type Verdict } from './types.ts';

/**
 * Walks the way of a request from outside in and tells at each stop what was seen and what to do. Changes nothing, needs
 * no service, and ends when the facts' time is over, whatever hangs: what is late by then is reported as such.
 */
export async function diagnose(facts: Facts): Promise<Diagnosis> {
  const { configFile, around, ends } = facts;
  await facts.begun();
  const lines = await Promise.all(CHECKS.map((check) => linesOf(check, facts, ends)));
  const all = lines.flat();
  return {
    at: around.now().toISOString(),
    version: versions().program,
    configFile,
    verdict: worst(all.map(({ verdict }) => verdict)),
    lines: all,
    durationMs: Math.round(performance.now() - facts.began),
  };
}

async function linesOf(check: Check, facts: Facts, ends: number): Promise<Line[]> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<Line[]>((resolve) => {
    const milliseconds = Math.max(0, ends - performance.now());
    timer = setTimeout(
      () =>
        resolve([
          named(
            check,
            failure(
              'this look did not end in time',
              'something hangs: mend what fails above, and look at the load of this host',
            ),
          ),
        ]),
      milliseconds,
    );
  });
  try {
    return await Promise.race([
      late,
      Promise.resolve(check.run(facts)).then((found) => found.map((finding) => named(check, finding))),
    ]);
  } catch (error) {
    return [
      named(
        check,
        failure(
          `this look failed itself: ${(error as Error).message}`,
          'report it with the output of kms-plugin doctor --json',
        ),
      ),
    ];
  } finally {
    clearTimeout(timer);
  }
}

const named = (check: Check, finding: Omit<Line, 'check'>): Line => ({ check: check.name, ...finding });

function worst(verdicts: readonly Verdict[]): Verdict {
  if (verdicts.includes('failure')) return 'failure';
  return verdicts.includes('warning') ? 'warning' : 'ok';
}
