/** Somebody who asks for a place in flight. */
export interface Applicant {
  /** The place is yours: called at once, or when it is your turn. */
  admitted(): void;
}

/** Places in flight and the queue before them, first come, first served. One for the whole server. */
export class Admission {
  #places: number;
  #room: number;
  #running = 0;
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
      this.#running += 1;
      applicant.admitted();
      return true;
    }
    if (this.#queue.length >= this.#room) return false;
    this.#queue.push(applicant);
    return true;
  }

  /** Gives a place back. */
  leave(): void {
    this.#running -= 1;
    this.#fill();
  }

  /** Out of the queue, without having had a place. */
  withdraw(applicant: Applicant): void {
    const index = this.#queue.indexOf(applicant);
    if (index >= 0) this.#queue.splice(index, 1);
  }

  #fill(): void {
    while (this.#running < this.#places) {
      const next = this.#queue.shift();
      if (next === undefined) return;
      this.#running += 1;
      next.admitted();
    }
  }
}
