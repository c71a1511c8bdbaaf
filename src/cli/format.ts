/** Small pieces of text that several verbs show. */

export type Paint = (text: string) => string;

export interface Paints {
  readonly good: Paint;
  readonly bad: Paint;
  readonly notice: Paint;
  readonly faint: Paint;
}

export function paints(colour: boolean): Paints {
  const sgr =
    (code: number): Paint =>
    (text) =>
      colour ? `\u001b[${code}m${text}\u001b[0m` : text;
  return { good: sgr(32), bad: sgr(31), notice: sgr(33), faint: sgr(2) };
}

/** "3 d 4 h", "2 min 5 s": the two largest units. */
export function span(seconds: number): string {
  const units = [
    ['d', 86_400],
    ['h', 3_600],
    ['min', 60],
    ['s', 1],
  ] as const;
  let rest = Math.max(0, Math.floor(seconds));
  const parts = units.map(([unit, size]) => {
    const count = Math.floor(rest / size);
    rest -= count * size;
    return { count, unit };
  });
  const first = parts.findIndex(({ count }) => count > 0);
  if (first < 0) return '0 s';
  const shown = parts.slice(first, first + 2).filter(({ count }) => count > 0);
  return shown.map(({ count, unit }) => `${count} ${unit}`).join(' ');
}

/** An ISO time as people read it, to the second, in UTC. */
export function moment(iso: string): string {
  return `${iso.slice(0, 19).replace('T', ' ')} UTC`;
}

export function plural(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** Rows under a heading, in columns as wide as their widest cell; the last column is not padded. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, at) => (widths[at] = Math.max(widths[at] ?? 0, cell.length)));
  return rows
    .map((row) => row.map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd(widths[at] ?? 0))).join('  '))
    .map((line) => line.trimEnd())
    .join('\n');
}

const DURATION_UNITS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000 };

/** `30s`, `10m`, `2h` in milliseconds, as the configuration file writes durations; undefined for anything else. */
export function milliseconds(written: string): number | undefined {
  const [, digits, unit] = /^(\d{1,6})([smh])$/.exec(written) ?? [];
  return digits === undefined ? undefined : Number(digits) * (DURATION_UNITS[unit ?? ''] ?? 0);
}
