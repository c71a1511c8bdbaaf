/** What rooms need of a log. They are given one; none is global. */
export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

/** Fields beside the message. Never a plaintext, PIN, key or ciphertext body. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  error(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  debug(message: string, fields?: LogFields): void;
}
