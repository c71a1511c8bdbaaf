/** Somebody who asks for a place in flight. */
export interface Applicant {
  /** Whose call it is: a connection. */
  readonly from: object;
  /** The place is yours: called at once, or when it is your turn. */
  admitted(): void;
  /** You have lost your turn in the full queue to a connection with fewer calls in it. */
  crowdedOut(): void;
}

/**
 * Places in flight and the queue before them, first come, first served, within bounds that keep one connection from
 * shutting the others out: none gets more than half of the places while another one waits, and in a full queue the
 * connection with most calls gives a turn up. One for the whole server.
 */
export class Admission {
  #places: number;
  #room: number;
  #running = 0;
  readonly #runningOf = new Map<object, number>();
  readonly #queue: Applicant[] = [];

  /**
   * @param inFlight - calls that run at once.
   * @param queued - calls that wait for a place at once.
   */
  constructor(inFlight: number, queued: number) {
    this.#places = inFlight;
    this.#room = queued;
  }

  get running(): number {
    return this.#running;
  }

  get queued(): number {
    return this.#queue.length;
  }

  /** New limits; nobody who is in loses his place. */
  resize(inFlight: number, queued: number): void {
    this.#places = inFlight;
    this.#room = queued;
    this.#fill();
  }

  /** Gives a place or a turn in the queue. False when the queue is full. */
  apply(applicant: Applicant): boolean {
    if (this.#running < this.#places) {
      this.#admit(applicant);
      return true;
    }
    if (this.#queue.length >= this.#room && !this.#makeRoom(applicant)) return false;
    this.#queue.push(applicant);
    return true;
  }

  /** Gives a place back. */
  leave(applicant: Applicant): void {
    this.#running -= 1;
    const left = (this.#runningOf.get(applicant.from) ?? 0) - 1;
    if (left > 0) this.#runningOf.set(applicant.from, left);
    else this.#runningOf.delete(applicant.from);
    this.#fill();
  }

  /** Out of the queue, without having had a place. */
  withdraw(applicant: Applicant): void {
    const index = this.#queue.indexOf(applicant);
    if (index >= 0) this.#queue.splice(index, 1);
  }

  #admit(applicant: Applicant): void {
    this.#running += 1;
    this.#runningOf.set(applicant.from, (this.#runningOf.get(applicant.from) ?? 0) + 1);
    applicant.admitted();
  }

  #fill(): void {
    while (this.#running < this.#places && this.#queue.length > 0) {
      const fair = this.#queue.findIndex(({ from }) => (this.#runningOf.get(from) ?? 0) < this.#places / 2);
      // Nobody waits but connections that have their half: then the places are theirs.
      const [next] = this.#queue.splice(Math.max(0, fair), 1);
      if (next !== undefined) this.#admit(next);
    }
  }

  /** The last call of the connection with most calls in the queue goes, if the applicant's has two fewer or less. */
  #makeRoom({ from }: Applicant): boolean {
    const waiting = new Map<object, number>();
    for (const each of this.#queue) waiting.set(each.from, (waiting.get(each.from) ?? 0) + 1);
    const most = Math.max(0, ...waiting.values());
    if ((waiting.get(from) ?? 0) + 1 >= most) return false;
    const last = this.#queue.findLastIndex((each) => waiting.get(each.from) === most);
    const [out] = this.#queue.splice(last, 1);
    out?.crowdedOut();
    return out !== undefined;
  }
}
