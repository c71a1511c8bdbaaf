interface Use {
  encrypts: number;
  decrypts: number;
  /** Milliseconds of the system clock. */
  last: number;
}

/** How often each key id was used since the service started. */
export class Uses {
  readonly #uses = new Map<string, Use>();

  encrypted(keyId: string): void {
    this.#use(keyId).encrypts++;
  }

  decrypted(keyId: string): void {
    this.#use(keyId).decrypts++;
  }

  /** Sums over the ids of one key. */
  of(keyIds: readonly string[]): { encrypts: number; decrypts: number; lastUsed?: string } {
    const uses = keyIds.flatMap((id) => this.#uses.get(id) ?? []);
    const last = Math.max(0, ...uses.map((use) => use.last));
    return {
      encrypts: uses.reduce((sum, use) => sum + use.encrypts, 0),
      decrypts: uses.reduce((sum, use) => sum + use.decrypts, 0),
      ...(last === 0 ? {} : { lastUsed: new Date(last).toISOString() }),
    };
  }

  #use(keyId: string): Use {
    let use = this.#uses.get(keyId);
    if (use === undefined) this.#uses.set(keyId, (use = { encrypts: 0, decrypts: 0, last: 0 }));
    use.last = Date.now();
    return use;
  }
}
