/** Exit statuses (sysexits.h where it has one), part of the commands' contract: docs/commands.md. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  /** EX_UNAVAILABLE: the service does not answer. */
  unavailable: 69,
  /** EX_CONFIG. */
  config: 78,
} as const;

/** The command line makes no sense. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The command failed in a way that its message tells the operator. */
export class CommandError extends Error {
  override readonly name = 'CommandError';
  readonly exit: number;

  constructor(message: string, exit: number = EXIT.failure) {
    super(message);
    this.exit = exit;
  }
}

export interface OptionSpec {
  readonly type: 'string' | 'boolean';
  /** What stands for the value in the help. */
  readonly hint?: string;
  readonly help: string;
}

/** One verb: what the help says and which code runs it. */
export interface Command {
  readonly words: readonly string[];
  /** Names of its arguments, all required. */
  readonly operands: readonly string[];
  readonly options: Readonly<Record<string, OptionSpec>>;
  readonly summary: string;
  /** Command lines as an operator types them; a test runs each. */
  readonly examples?: readonly string[];
  /** Loads the verb's own code: a verb that is not run costs no start-up time. */
  load(): Promise<{ run(invocation: Invocation): Promise<number> }>;
}

/** A verb as it was called. */
export interface Invocation {
  readonly operands: readonly string[];
  /** The value of a string option. */
  readonly option: (name: string) => string | undefined;
  readonly flag: (name: string) => boolean;
  /** `--config`, else the default. */
  readonly configFile: string;
  readonly json: boolean;
  readonly colour: boolean;
  /** Writes lines of text to standard output, without what a terminal would act on. */
  readonly print: (text: string) => void;
  /** Writes one JSON value to standard output. */
  readonly printJson: (value: unknown) => void;
  /** Writes a line to standard error. */
  readonly complain: (text: string) => void;
}
