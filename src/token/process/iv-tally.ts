/**
 * IVs that this side chose for the token and that the plugin process does not know of: known answers, judging, self-tests,
 * repeated attempts. What it asks to have sealed it counts itself.
 */
export class IvTally {
  #counts: Record<string, number> = {};
  #any = false;

  add(keyId: string): void {
    this.#counts[keyId] = (this.#counts[keyId] ?? 0) + 1;
    this.#any = true;
  }

  /** @returns the number since the last call by key id; undefined where there was none. */
  take(): Readonly<Record<string, number>> | undefined {
    if (!this.#any) return undefined;
    const counts = this.#counts;
    this.#counts = {};
    this.#any = false;
    return counts;
  }
}
