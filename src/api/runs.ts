import type { KmsError } from '../errors/index.ts';

/** A call under way, as the list of them sees it. */
export interface Listed {
  /** Where it stands in the list; the list's own. */
  place: number;
  abort(reason: KmsError): void;
  abortWaiting(reason: KmsError): void;
}

/**
 * The calls under way. A plain array and no Set: as calls come and go a Set leaves its old tables behind, and V8's
 * scavenger takes whatever such a table held for alive as soon as the table is old: a third more work for the collector.
 */
export class Runs {
  readonly #runs: Listed[] = [];

  add(run: Listed): void {
    run.place = this.#runs.push(run) - 1;
  }

  delete(run: Listed): void {
    const last = this.#runs.pop();
    if (last === undefined || last === run) return;
    this.#runs[run.place] = last;
    last.place = run.place;
  }

  /** Those of this moment: ending one takes it out. */
  all(): readonly Listed[] {
    return [...this.#runs];
  }
}
