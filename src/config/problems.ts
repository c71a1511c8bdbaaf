/** One fault of the configuration file, in the operator's words. */
export interface Problem {
  /** As it is written in the file, e.g. `listeners[0].tls.certificate`; the file's own name where it is about the whole file. */
  readonly property: string;
  /** What is wrong, as the rest of a sentence that begins with the property. */
  readonly trouble: string;
  /** What to do about it. */
  readonly mend: string;
  /** Line of the file, counted from 1, where there is one. */
  readonly line?: number;
}

/** Thrown by `loadConfig`: all that is wrong with the file, found in one pass. The message is written for a terminal. */
export class ConfigError extends Error {
  readonly file: string;
  readonly problems: readonly Problem[];
  readonly warnings: readonly string[];

  constructor(file: string, problems: readonly Problem[], warnings: readonly string[] = []) {
    const count = problems.length === 1 ? '1 problem' : `${problems.length} problems`;
    super([`${file}: ${count}`, ...problems.map((problem) => `  ${describeProblem(problem)}`)].join('\n'));
    this.name = 'ConfigError';
    this.file = file;
    this.problems = problems;
    this.warnings = warnings;
  }
}

/** A problem as one line of text: property, line, trouble, mend. */
export function describeProblem({ property, line, trouble, mend }: Problem): string {
  return `${property}${line === undefined ? '' : ` (line ${line})`} ${trouble}: ${mend}`;
}

/**
 * What one reading of a file gathers: problems, warnings, and on which line each property stands. Relative paths start
 * from `directory`.
 */
export class Sheet {
  readonly file: string;
  readonly directory: string;
  readonly problems: Problem[] = [];
  /** What serve lives with and check-config, doctor and a deployment do not. */
  readonly contradictions: Problem[] = [];
  readonly warnings: string[] = [];
  readonly lines = new Map<string, number>();

  constructor(file: string, directory: string) {
    this.file = file;
    this.directory = directory;
  }

  problem(property: string, trouble: string, mend: string): void {
    this.problems.push(this.#at(property, trouble, mend));
  }

  contradiction(property: string, trouble: string, mend: string): void {
    this.contradictions.push(this.#at(property, trouble, mend));
  }

  warn(property: string, trouble: string, mend: string): void {
    this.warnings.push(describeProblem(this.#at(property, trouble, mend)));
  }

  #at(property: string, trouble: string, mend: string): Problem {
    const line = this.#line(property);
    return { property, trouble, mend, ...(line === undefined ? {} : { line }) };
  }

  /** A property that is missing has no line; the section that it is missing from has. */
  #line(property: string): number | undefined {
    for (let at = property; at !== ''; at = at.replace(/(^|\.|\[)[^.[]*$/, '')) {
      const line = this.lines.get(at);
      if (line !== undefined) return line;
    }
    return undefined;
  }
}

/** Something from the file as it may be shown: text quoted, short, without control characters; a number as YAML writes it. */
export function shown(value: string | number | bigint): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
  return Number.isNaN(value) ? '.nan' : String(value).replace('Infinity', '.inf');
}
