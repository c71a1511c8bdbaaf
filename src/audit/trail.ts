import type { CallObserver, FinishedCall } from '../api/index.ts';
import { FAULTS } from '../errors/index.ts';
import type { Log } from '../log/index.ts';
import { AuditFile } from './audit-file.ts';
import { Backlog, type Batch } from './backlog.ts';
import { isOperation, lostLine, operationLine } from './line.ts';

export interface AuditOptions {
  /** Bytes of lines that may wait in memory; 1 MiB, about 4,000 lines. */
  readonly mostBytes?: number;
  /** How long a line waits for others to be written with, in milliseconds. */
  readonly gatherMs?: number;
  /** How long after a failure the file is tried again, in milliseconds. */
  readonly retryMs?: number;
}

const MOST_BYTES = 1 << 20;
const GATHER_MS = 50;
const RETRY_MS = 1_000;
/** Bytes of one write. */
const BATCH_BYTES = 1 << 16;
/** How often a trail that goes on losing lines says so in the log, in milliseconds. */
const TELL_MS = 10_000;

/**
 * Writes a line for each operation that has ended, beside the calls and never in their way: lines gather in memory and
 * one write at a time takes them to the file. What does not fit is counted, and the count stands in the trail where the
 * lines are missing, and in the log.
 */
export class AuditTrail implements CallObserver {
  readonly #log: Log;
  readonly #gatherMs: number;
  readonly #retryMs: number;
  readonly #backlog: Backlog;
  /** No operation is entered any more; what waits is still written. */
  #off = true;
  #path: string | undefined;
  #file: AuditFile | undefined;
  /** The file must be opened anew before the next write: it was moved away, or another one is wanted. */
  #reopen = false;
  #batch: Batch | undefined;
  /** Bytes of the batch that are written. */
  #offset = 0;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> | undefined;
  #written = 0;
  #lost = 0;
  /** Lost lines that the log has not told in a closing line yet. */
  #untold = 0;
  #toldAt = -Infinity;
  /** Why it is not written at the moment. */
  #failing: string | undefined;

  constructor(log: Log, options: AuditOptions = {}) {
    this.#log = log;
    this.#gatherMs = options.gatherMs ?? GATHER_MS;
    this.#retryMs = options.retryMs ?? RETRY_MS;
    this.#backlog = new Backlog(options.mostBytes ?? MOST_BYTES, (lines) => lostLine(lines, new Date()));
  }

  /**
   * Writes to this file from now on, or to none. The file is opened anew even when it is the same: it may have been
   * moved away. Returns at once.
   */
  use(file: string | undefined): void {
    if (file === undefined && this.#path === undefined) return;
    if (file !== this.#path) this.#log.info('audit trail', { file: file ?? 'off' });
    this.#path = file ?? this.#path;
    this.#off = file === undefined;
    this.#reopen = !this.#off;
    this.#schedule(0);
  }

  finished(call: FinishedCall): void {
    if (this.#off || !isOperation(call)) return;
    if (this.#backlog.offer(operationLine(call, new Date()))) this.#schedule(this.#gatherMs);
    else this.#lose();
  }

  /** Lines since the start; undefined while there is no trail. */
  counts(): { readonly written: number; readonly lost: number } | undefined {
    return this.#off ? undefined : { written: this.#written, lost: this.#lost };
  }

  /** What an operator should look at, for status. */
  warnings(): readonly string[] {
    return this.#off || this.#failing === undefined ? [] : [this.#failing];
  }

  /** Writes what waits, for at most so many milliseconds; says in the log what could not be written. */
  async close(milliseconds: number): Promise<void> {
    this.#off = true;
    const end = performance.now() + milliseconds;
    while (this.#hasWork() && performance.now() < end) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#writing ??= this.#write();
      await Promise.race([this.#writing, pause(Math.max(1, end - performance.now()))]);
      if (this.#failing) break;
    }
    clearTimeout(this.#timer);
    const missing = this.#backlog.lines + this.#backlog.gap + (this.#batch?.lines ?? 0);
    if (missing > 0) this.#tell('the audit trail ends without its last lines', missing);
    if (this.#writing === undefined) await this.#closeFile();
  }

  #hasWork(): boolean {
    return this.#batch !== undefined || this.#backlog.lines > 0 || this.#backlog.gap > 0;
  }

  #schedule(milliseconds: number): void {
    if (this.#writing !== undefined || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#writing = this.#write();
    }, milliseconds);
    this.#timer.unref();
  }

  /** One turn: the file opened if need be, one batch written. Never rejects. */
  async #write(): Promise<void> {
    let wait = this.#gatherMs;
    try {
      const file = await this.#opened();
      if (file !== undefined) await this.#writeBatch(file);
      if (this.#off && !this.#hasWork()) await this.#closeFile();
    } catch (error) {
      wait = this.#retryMs;
      this.#fail(error as Error);
    }
    this.#writing = undefined;
    if (this.#hasWork() || this.#reopen) this.#schedule(wait);
  }

  async #opened(): Promise<AuditFile | undefined> {
    if (this.#path === undefined) return undefined;
    if (this.#reopen) {
      this.#reopen = false;
      await this.#closeFile();
      // The new file begins with a whole line.
      if (this.#batch !== undefined && this.#offset > 0) {
        this.#offset = this.#batch.bytes.subarray(0, this.#offset).lastIndexOf('\n') + 1;
      }
    }
    this.#file ??= await AuditFile.open(this.#path);
    return this.#file;
  }

  async #writeBatch(file: AuditFile): Promise<void> {
    if (this.#batch === undefined) {
      this.#batch = this.#backlog.take(BATCH_BYTES);
      this.#offset = 0;
    }
    const { bytes, lines } = this.#batch ?? { bytes: Buffer.alloc(0), lines: 0 };
    while (this.#offset < bytes.length) this.#offset += await file.append(bytes.subarray(this.#offset));
    this.#batch = undefined;
    this.#backlog.written();
    this.#written += lines;
    this.#recover(lines);
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close().catch(() => undefined);
  }

  #fail(error: Error): void {
    // Another attempt begins with another open: the file or its disk may be a new one.
    this.#reopen ||= this.#offset === 0;
    const mend = 'free its disk or mend its directory; it is tried again every second';
    this.#failing = `the audit trail cannot be written (${error.message}): ${mend}`;
    this.#log.error(this.#failing, {
      code: FAULTS['audit-trail'].code,
      file: this.#path,
    });
  }

  #lose(): void {
    this.#lost++;
    this.#untold++;
    const now = performance.now();
    if (now - this.#toldAt < TELL_MS) return;
    this.#toldAt = now;
    this.#tell('the audit trail does not keep up and loses lines: its disk is too slow, or full', this.#untold);
  }

  /** Everything that waited is written: what was lost on the way is known now. */
  #recover(lines: number): void {
    if (lines === 0) return;
    if (this.#failing !== undefined) this.#log.info('the audit trail is written again', { file: this.#path });
    this.#failing = undefined;
    if (this.#untold === 0 || this.#backlog.gap > 0) return;
    this.#tell('lines are missing in the audit trail', this.#untold);
    this.#untold = 0;
    this.#toldAt = -Infinity;
  }

  #tell(message: string, lines: number): void {
    this.#log.error(message, { code: FAULTS['audit-trail'].code, file: this.#path, lines });
  }
}

const pause = (milliseconds: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, milliseconds));
