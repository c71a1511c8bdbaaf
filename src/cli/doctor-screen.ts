import { ABOVE, isSlow, type Diagnosis, type Line, type Verdict } from '../doctor/index.ts';
import { paints, plural, type Paints } from './format.ts';

const WIDTH = 15;

/** `kms-plugin doctor`: a line for each thing looked at, and under it what to do. */
export function doctorScreen({ lines, durationMs, slowness }: Diagnosis, colour: boolean): string {
  const paint = paints(colour);
  return [
    ...lines.flatMap((line, at) => shown(line, lines[at - 1]?.check === line.check, paint)),
    '',
    summary(lines, timeOf(durationMs, slowness), paint),
  ].join('\n');
}

function shown({ check, verdict, seen, mend }: Line, again: boolean, paint: Paints): string[] {
  const head = `${(again ? '' : check).padEnd(WIDTH)}${marks(paint)[verdict]}  ${seen}`;
  return mend === undefined || mend === ABOVE.first ? [head] : [head, `${' '.repeat(WIDTH + 9)}-> ${mend}`];
}

const marks = (paint: Paints): Record<Verdict, string> => ({
  ok: paint.good('ok     '),
  warning: paint.notice('warning'),
  failure: paint.bad('FAILURE'),
});

/** Why it took longer than it says it does. */
function timeOf(durationMs: number, slowness: number): string {
  const seconds = `${(durationMs / 1000).toFixed(1)} s`;
  return isSlow(slowness) ? `${seconds}: this host is slow, so doctor waits longer` : seconds;
}

function summary(lines: readonly Line[], time: string, paint: Paints): string {
  const count = (wanted: Verdict): number => lines.filter(({ verdict }) => verdict === wanted).length;
  const counts = `${plural(count('failure'), 'failure')}, ${plural(count('warning'), 'warning')}, ${time}`;
  const first = lines.find(({ verdict }) => verdict === 'failure');
  if (first === undefined) return `${paint.good('nothing fails')} (${counts})`;
  return `${paint.bad(`mend first: ${first.check}`)}: ${first.mend ?? ''} (${counts})`;
}
