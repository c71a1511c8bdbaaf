import { diagnose, Facts, SURROUNDINGS, writeBundle } from '../../doctor/index.ts';
import { CommandError, EXIT, UsageError, type Invocation } from '../command.ts';
import { doctorScreen } from '../doctor-screen.ts';
import { withOwnToken } from '../own-keyring.ts';

/** The whole of it ends within 5 s, the program's own start and end included, in milliseconds. */
const WHOLE_MS = 5_000;
/** Kept for the end: the screen, the archive, a token process that does not end. */
const END_MS = 700;

/** Exit status 0 when nothing fails (warnings or not), 1 when something does. */
export async function run({ configFile, json, colour, option, print, printJson }: Invocation): Promise<number> {
  const bundle = option('bundle');
  const log = option('log');
  if (log !== undefined && bundle === undefined) throw new UsageError('--log belongs to --bundle FILE');
  // performance.now() counts from the start of this process.
  const withinMs = WHOLE_MS - END_MS - performance.now();
  const facts = new Facts(configFile, { ...SURROUNDINGS, withOwnToken }, withinMs);
  const diagnosis = await diagnose(facts);
  if (json) printJson(diagnosis);
  else print(doctorScreen(diagnosis, colour));
  if (bundle !== undefined) {
    try {
      await writeBundle(bundle, facts, { diagnosis, screen: doctorScreen(diagnosis, false), log });
    } catch (error) {
      throw new CommandError(`no archive was written: ${fileTrouble(error as NodeJS.ErrnoException)}`);
    }
    if (!json)
      print(
        `\n${bundle} is written (mode 0600). It holds no PIN, key or value; look through it before you pass it on.`,
      );
  }
  return diagnosis.verdict === 'failure' ? EXIT.failure : EXIT.ok;
}

function fileTrouble({ code, path = 'its file', message }: NodeJS.ErrnoException): string {
  if (code === 'EEXIST') return `${path} is there already; name a new file after --bundle`;
  if (code === 'ENOENT') return `${path} is not there, or its directory is not; give the right path`;
  if (code === 'EACCES' || code === 'EPERM') return `this user may not open ${path}; choose a place where it may`;
  return message;
}
