import type { Facts } from './facts.ts';

export type Verdict = 'ok' | 'warning' | 'failure';

/** One line of a diagnosis, in the operator's words. */
export interface Finding {
  readonly verdict: Verdict;
  /** What was seen. */
  readonly seen: string;
  /** What to do next; with every warning and failure. */
  readonly mend?: string | Mend;
}

/** What to do, which depends on whether something fails earlier on the way. */
export interface Mend {
  readonly first: string;
  readonly alone: string;
}

/** One stop on the way from outside in. */
export interface Check {
  /** One or two words, unique: what is looked at. */
  readonly name: string;
  /** Must not wait for long on its own: what is late is given up and reported as such. */
  run(facts: Facts): Promise<readonly Finding[]> | readonly Finding[];
}

export interface Line {
  /** The check's name. */
  readonly check: string;
  readonly verdict: Verdict;
  readonly seen: string;
  readonly mend?: string;
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
  /** How many times slower than an idle one the host is: from 3 on doctor takes more time, and a late answer proves nothing. */
  readonly slowness: number;
  readonly durationMs: number;
}

export const ok = (seen: string): Finding => ({ verdict: 'ok', seen });
export const warning = (seen: string, mend: string | Mend): Finding => ({ verdict: 'warning', seen, mend });
export const failure = (seen: string, mend: string | Mend): Finding => ({ verdict: 'failure', seen, mend });

/** The mend of what depends on something that fails earlier on the way, and has no other. */
export const ABOVE: Mend = {
  first: 'mend what fails above first',
  alone: "run doctor again in a minute; if it says the same, look at the plugin's log",
};

/** A mend for what most often follows from a failure above: `first` where there is one, `alone` where nothing above fails. */
export const after = (first: string, alone: string): Mend => ({ first, alone });

/** A stop that could not be looked at: never silent, and no fault of its own. */
export const unseen = (why: string, mend: string | Mend = ABOVE): Finding => warning(`not looked at: ${why}`, mend);
