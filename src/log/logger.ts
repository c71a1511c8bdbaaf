import { Writable } from 'node:stream';
import winston from 'winston';
import { printable, shortened } from './fields.ts';
import { standardOutput, type Output } from './output.ts';
import { Repeats } from './repeats.ts';
import type { Log, LogFields, LogLevel } from './types.ts';

export const LOG_LEVELS: readonly LogLevel[] = ['error', 'warn', 'info', 'debug'];

export interface LoggerOptions {
  readonly level: LogLevel;
  /** Default: standard output. */
  readonly output?: Output;
  /** One line for each kind of error or warning in this many milliseconds. */
  readonly repeatMs?: number;
}

/** The program's log: JSON lines `{"time","level","message",…}`, times RFC 3339 in UTC with milliseconds. */
export interface Logger extends Log {
  /** The same log for one room: its lines carry `room`. */
  child(room: string): Log;
  readonly level: LogLevel;
  /** Takes effect with the next line, children included. */
  setLevel(level: LogLevel): void;
  /** Writes what is held back, and waits for the reader for at most `milliseconds`. */
  flush(milliseconds: number): Promise<void>;
}

const REPEAT_MS = 10_000;
/** The longest pause of a kind that goes on, as a multiple of the first: 5 minutes. */
const LONGEST_PAUSE = 30;

interface Line {
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields;
  /** When it happened: a line that was held back is written later. */
  readonly at: Date;
}

/**
 * Makes the log. Errors and warnings are limited to one line for each kind in 10 s, and while a kind goes on saying the same,
 * to one after longer and longer pauses, up to 5 minutes; the kind is what the fields `code` and `kind` say, else the message.
 * The last one held back is written when the time is up, with `left_out`, the number of those before it that were not
 * written, and with `last`, the time at which it happened where that is longer ago.
 */
export function createLogger(options: LoggerOptions): Logger {
  const output = options.output ?? standardOutput((lines) => `${lostLine(lines)}\n`);
  const logger = winston.createLogger({
    levels: Object.fromEntries(LOG_LEVELS.map((level, rank) => [level, rank])),
    level: options.level,
    format: winston.format.printf((info) => toJson(info as unknown as Line)),
    exitOnError: false,
  });
  logger.pipe(neverBlocking(output));
  const put = (line: Line): void => void logger.log({ level: line.level, message: line.message, fields: line.fields });
  const windowMs = options.repeatMs ?? REPEAT_MS;
  const repeats = new Repeats<Line>(
    (line, leftOut) => {
      const isOld = Date.now() - line.at.getTime() > windowMs;
      const held = {
        ...(leftOut === 0 ? {} : { left_out: leftOut }),
        ...(isOld ? { last: line.at.toISOString() } : {}),
      };
      put({ ...line, fields: { ...line.fields, ...held } });
    },
    senseOf,
    { windowMs, longestMs: LONGEST_PAUSE * windowMs },
  );

  const log = (room: string | undefined): Log => {
    const at =
      (level: LogLevel) =>
      (message: string, fields: LogFields = {}): void => {
        if (LOG_LEVELS.indexOf(level) > LOG_LEVELS.indexOf(logger.level as LogLevel)) return;
        const line = { level, message, fields: room === undefined ? fields : { room, ...fields }, at: new Date() };
        if (level === 'error' || level === 'warn') repeats.offer(kindOf(line), line);
        else put(line);
      };
    return { error: at('error'), warn: at('warn'), info: at('info'), debug: at('debug') };
  };
  return {
    ...log(undefined),
    child: log,
    get level() {
      return logger.level as LogLevel;
    },
    setLevel: (level) => {
      logger.level = level;
    },
    flush: (milliseconds) => {
      repeats.flush();
      return output.flush(milliseconds);
    },
  };
}

function kindOf(line: Line): string {
  const { code, kind } = line.fields;
  const named = [code, kind].filter((name) => typeof name === 'string' || typeof name === 'number');
  return `${line.level} ${named.length > 0 ? named.join(' ') : line.message}`;
}

/** A line without what differs each time: moments, counts, process ids. */
function senseOf({ message, fields }: Line): string {
  return JSON.stringify([message, printable(fields)]).replace(/\d+/g, '#');
}

/** The stream that winston writes to takes every line at once: only Output decides what waits and what is dropped. */
function neverBlocking(output: Output): Writable {
  return new Writable({
    objectMode: true,
    write(info: { [MESSAGE]?: unknown }, _encoding, done) {
      const text = info[MESSAGE];
      if (typeof text === 'string') output.write(`${text}\n`);
      done();
    },
  });
}

/** Where winston's formats leave the finished line. */
const MESSAGE = Symbol.for('message');

function toJson(line: Line): string {
  const all = { time: new Date().toISOString(), level: line.level, message: shortened(line.message) };
  return escaped(JSON.stringify({ ...all, ...printable(line.fields) }));
}

function lostLine(lines: number): string {
  const message = 'log lines were lost: standard output did not take them';
  return toJson({ level: 'warn', message, fields: { lines }, at: new Date() });
}

/**
 * JSON.stringify escapes the control characters below U+0020. DEL, the C1 controls (U+009B starts a terminal's escape
 * sequence), the line and paragraph separators and the characters that turn the direction of text are escaped here.
 */
function escaped(json: string): string {
  return json.replace(
    /[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
