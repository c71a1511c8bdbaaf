import { abandonable, CallEnd, type Call } from '../call/index.ts';
import { KmsError } from '../errors/index.ts';

/**
 * Work that several calls wait for, under way once for each name. It goes on when the call that began it leaves, with the
 * time that call had; who still has time when that runs out begins it anew. A failure goes to those who waited for it
 * and is not kept.
 */
export class SharedWork<T> {
  readonly #underWay = new Map<string, Promise<T>>();

  /** Throws what `work` throws, and the call's own end. */
  async join(name: string, call: Call, work: (shared: Call) => Promise<T>): Promise<T> {
    for (;;) {
      const shared = this.#underWay.get(name) ?? this.#begin(name, call.deadline, work);
      try {
        return await abandonable(shared, call.signal);
      } catch (error) {
        const outOfTime = error instanceof KmsError && error.kind === 'deadline';
        if (!outOfTime || call.signal.aborted || performance.now() >= call.deadline) throw error;
      }
    }
  }

  #begin(name: string, deadline: number, work: (shared: Call) => Promise<T>): Promise<T> {
    const signal = new CallEnd();
    const end = (): void => signal.abort(new KmsError('deadline', 'the time for this call passed'));
    const timer = setTimeout(end, Math.max(1, Math.ceil(deadline - performance.now())));
    const shared = work({ deadline, signal }).finally(() => {
      clearTimeout(timer);
      this.#underWay.delete(name);
    });
    this.#underWay.set(name, shared);
    return shared;
  }
}
