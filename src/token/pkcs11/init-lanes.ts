import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { CkrError, toCkrError } from './ckr.ts';
import { LANE_PROGRAM, type InitCall, type InitMessage } from './init-call.ts';

/** At most so many threads: together with the calls that run meanwhile they fill the sessions of the default. */
const MOST = 8;
/** Mean time of an Init call in milliseconds from which lanes pay (handing one over costs about 0.1 ms), and below which not. */
const SLOW_MS = 0.3;
const FAST_MS = 0.15;
/** Weight of the newest call in the mean, and the most that one counts: a thread that had to wait says little. */
const WEIGHT = 1 / 16;
const COUNTED_MS = 1;
/** A lane that had nothing to do for so long ends, in milliseconds: each costs some MiB. */
const IDLE_MS = 60_000;

interface Task {
  readonly call: InitMessage;
  readonly resolve: () => void;
  readonly reject: (error: CkrError) => void;
}

interface Lane {
  readonly worker: Worker;
  task: Task | undefined;
  idleTimer: NodeJS.Timeout | undefined;
}

/**
 * Threads for the C_…Init calls. pkcs11js makes them synchronously, and where the module goes to the HSM for them each would
 * stop this whole process for a round trip, whatever the number of sessions. Threads are started only when the measured
 * time of Init calls says that they pay and more than one operation is under way: most modules answer an Init at once.
 *
 * The data never goes there: only handles, mechanism, IV and associated data. A lane that hangs keeps its operation, as a
 * call that hangs does; the plugin process kills this process then.
 */
export class InitLanes {
  readonly #module: string;
  readonly #idle: Lane[] = [];
  readonly #lanes = new Set<Lane>();
  readonly #waiting: Task[] = [];
  #starting = false;
  #meanMs = 0;
  #slow = false;
  #broken = false;

  constructor(module: string) {
    this.#module = module;
  }

  /** How many threads there are. */
  get size(): number {
    return this.#lanes.size;
  }

  /** Runs an Init call on this thread and learns from its time. */
  here(call: () => void): void {
    const began = performance.now();
    call();
    this.#learn(performance.now() - began);
  }

  /**
   * Whether the next Init call should go to a lane. Starts one more lane where all are at work.
   * @param underWay - operations inside the module, this one included.
   */
  pay(underWay: number): boolean {
    if (!this.#slow || this.#broken) return false;
    if (underWay > 1 && this.#idle.length === 0 && this.#lanes.size < Math.min(MOST, underWay)) this.#start();
    // Also for the first of several that come together: it would hold up the others here.
    return this.#lanes.size > 0;
  }

  /** Makes the call in the next lane that is free. Throws CkrError. */
  run(call: InitCall): Promise<void> {
    return new Promise((resolve, reject) => {
      const task = { call: call.message, resolve, reject };
      const lane = this.#idle.pop();
      if (lane === undefined) this.#waiting.push(task);
      else this.#give(lane, task);
    });
  }

  #give(lane: Lane, task: Task): void {
    clearTimeout(lane.idleTimer);
    lane.task = task;
    lane.worker.postMessage(task.call);
  }

  #learn(milliseconds: number): void {
    this.#meanMs += (Math.min(milliseconds, COUNTED_MS) - this.#meanMs) * WEIGHT;
    this.#slow = this.#meanMs > (this.#slow ? FAST_MS : SLOW_MS);
  }

  /** One at a time, so that a moment's rush does not start them all. */
  #start(): void {
    if (this.#starting) return;
    this.#starting = true;
    const worker = new Worker(LANE_PROGRAM, {
      eval: true,
      resourceLimits: { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 1 },
      env: {},
      workerData: { addon: createRequire(import.meta.filename).resolve('pkcs11js'), module: this.#module },
    });
    worker.unref();
    const lane: Lane = { worker, task: undefined, idleTimer: undefined };
    worker.on('message', (answer: 'ready' | { milliseconds: number; failure?: { message: string; code?: number } }) => {
      if (answer === 'ready') {
        this.#starting = false;
        this.#lanes.add(lane);
      } else {
        const { task } = lane;
        lane.task = undefined;
        this.#learn(answer.milliseconds);
        if (answer.failure === undefined) task?.resolve();
        else task?.reject(toCkrError(task.call.function, answer.failure));
      }
      this.#next(lane);
    });
    worker.on('error', (error: Error) => {
      console.error(`kms-plugin token process: a thread for Init calls ended: ${error.message}`);
      this.#broken = true;
    });
    worker.on('exit', () => this.#ended(lane));
  }

  #next(lane: Lane): void {
    const task = this.#waiting.shift();
    if (task !== undefined) {
      this.#give(lane, task);
      return;
    }
    this.#idle.push(lane);
    lane.idleTimer = setTimeout(() => this.#end(lane), IDLE_MS).unref();
  }

  #end(lane: Lane): void {
    const at = this.#idle.indexOf(lane);
    if (at < 0) return;
    this.#idle.splice(at, 1);
    this.#lanes.delete(lane);
    void lane.worker.terminate();
  }

  /** A thread that ended by itself: its operation goes to another session, and Init calls stay on the main thread from now. */
  #ended(lane: Lane): void {
    if (!this.#lanes.delete(lane)) this.#starting = false;
    clearTimeout(lane.idleTimer);
    const at = this.#idle.indexOf(lane);
    if (at >= 0) this.#idle.splice(at, 1);
    const stranded = [...(lane.task === undefined ? [] : [lane.task])];
    if (this.#lanes.size === 0) stranded.push(...this.#waiting.splice(0));
    for (const task of stranded) task.reject(new CkrError(task.call.function, 'CKR_FUNCTION_FAILED'));
  }
}
