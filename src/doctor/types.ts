import type { Facts } from './facts.ts';

export type Verdict = 'ok' | 'warning' | 'failure';

/** One line of a diagnosis, in the operator's words. */
export interface Finding {
  readonly verdict: Verdict;
  /** What was seen. */
  readonly seen: string;
  /** What to do next; with every warning and failure. */
  readonly mend?: string;
}

/** One stop on the way from outside in. */
export interface Check {
  /** One or two words, unique: what is looked at. */
  readonly name: string;
  /** Must not wait for long on its own: what is late is given up and reported as such. */
  run(facts: Facts): Promise<readonly Finding[]> | readonly Finding[];
}

export interface Line extends Finding {
  /** The check's name. */
  readonly check: string;
}

/** What doctor found out, what `doctor --json` prints. */
export interface Diagnosis {
  readonly at: string;
  readonly version: string;
  readonly configFile: string;
  /** The worst of all lines. */
  readonly verdict: Verdict;
  /** In the order of the path, from outside in. */
  readonly lines: readonly Line[];
  readonly durationMs: number;
}

export const ok = (seen: string): Finding => ({ verdict: 'ok', seen });
export const warning = (seen: string, mend: string): Finding => ({ verdict: 'warning', seen, mend });
export const failure = (seen: string, mend: string): Finding => ({ verdict: 'failure', seen, mend });
/** The mend of what depends on something that fails earlier on the way. */
export const ABOVE = 'mend what fails above first';

/** A stop that could not be looked at: never silent, and no fault of its own. */
export const unseen = (why: string, mend = ABOVE): Finding => warning(`not looked at: ${why}`, mend);
