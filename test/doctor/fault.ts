import type { Diagnosis } from '../../src/doctor/index.ts';
import type { Place } from './place.ts';

/** One fault to seed on a running installation. */
export interface Fault {
  /** What was seeded, as the table in docs/doctor-faults.md has it. */
  readonly seeded: string;
  /** What the first failing line must name, and its mend. */
  readonly check: string;
  readonly names: RegExp;
  readonly mend: RegExp;
  /** It looks like a fault, and nothing fails: the line that names it is a warning or good, and no other line fails. */
  readonly harmless?: true;
  /** What no line may advise here: a restart, a key, another owner. */
  readonly never?: RegExp;
  /** A command of the mend that ends the fault when it is carried out as it stands there. */
  readonly command?: RegExp;
  seed(place: Place): Promise<void> | void;
  /** Everything is well afterwards, or gets well by itself. */
  undo(place: Place): Promise<void> | void;
  /** In place of the verb. */
  diagnose?(place: Place): Promise<Diagnosis>;
}
