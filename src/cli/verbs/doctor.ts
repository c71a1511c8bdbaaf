import { accessSync, constants } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { diagnose, Facts, SURROUNDINGS, writeBundle } from '../../doctor/index.ts';
import { CommandError, EXIT, UsageError, type Invocation } from '../command.ts';
import { doctorScreen } from '../doctor-screen.ts';
import { withOwnToken } from '../own-keyring.ts';

/** The whole of it ends within 5 s, the program's own start and end included, in milliseconds. */
const WHOLE_MS = 5_000;
/** The same on a slow host, where its start alone may take seconds. */
const SLOW_MS = 25_000;
/** Kept for the end: the screen, the archive, a token process that does not end. */
const END_MS = 700;

/** Exit status 0 when nothing fails (warnings or not), 1 when something does. */
export async function run({ configFile, json, colour, option, print, printJson }: Invocation): Promise<number> {
  const bundle = option('bundle');
  const log = option('log');
  if (log !== undefined && bundle === undefined) throw new UsageError('--log belongs to --bundle FILE');
  // performance.now() counts from the start of this process.
  const withinMs = WHOLE_MS - END_MS - performance.now();
  const facts = new Facts(configFile, { ...SURROUNDINGS, withOwnToken }, withinMs, SLOW_MS - WHOLE_MS + withinMs);
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

function fileTrouble({ code, path: file = 'its file', message }: NodeJS.ErrnoException): string {
  if (code === 'EEXIST') return `${file} is there already; name a new file after --bundle`;
  if (code === 'ENOENT') return `${file} is not there, or its directory is not; give the right path`;
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return `user ${process.geteuid?.() ?? '?'} may not write to ${path.dirname(path.resolve(file))} (${code}); take ${elsewhere(file)}`;
  }
  return message;
}

/** A place that this user can write to: root's own directory, where root most often stands, is not open to the plugin's user. */
function elsewhere(file: string): string {
  const places = [tmpdir(), process.cwd()].filter((directory) => {
    try {
      accessSync(directory, constants.W_OK | constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  return places[0] === undefined ? 'a directory that it may write to' : path.join(places[0], path.basename(file));
}
