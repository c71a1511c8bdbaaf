import { closeSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { arch, release } from 'node:os';
import { versions } from '../../version/index.ts';
import type { Facts } from '../facts.ts';
import type { Process } from '../look/processes.ts';
import type { Diagnosis } from '../types.ts';
import { lastLogLines } from './log-lines.ts';
import { maskedConfiguration } from './masked.ts';
import { tar, type Entry } from './tar.ts';

/** Files of /proc/PID without anything of the process's memory, arguments or environment. */
const HARMLESS = ['limits', 'status', 'cgroup', 'io'] as const;

const README = `What "kms-plugin doctor --bundle" gathered, for somebody who helps.

doctor.txt, doctor.json   what doctor saw
status.json               what the running service says of itself
configuration.json        its settings; values that are not known to be harmless are masked
pins.json                 what is remembered of PINs: states and times, never a PIN or its hash
versions.json             of this program and this host's kernel
log.txt                   the log's last lines, with --log FILE
proc-*.txt                limits and memory of the two processes

No PIN, key, certificate key or value is in it. It does name hosts' paths, keys' labels and the token's serial number.
`;

/**
 * Writes a support archive to a new file of mode 0600. The files with secrets (PIN, private keys) are never opened for
 * it, nor are environments of processes.
 *
 * @throws the system's error, when the file exists already or cannot be written, or the log cannot be read.
 */
export async function writeBundle(
  file: string,
  facts: Facts,
  found: { readonly diagnosis: Diagnosis; readonly screen: string; readonly log: string | undefined },
): Promise<void> {
  const { diagnosis, screen, log } = found;
  const entries: Entry[] = [
    text('README.txt', README),
    text('doctor.txt', `${screen}\n`),
    json('doctor.json', diagnosis),
    json('status.json', await facts.service()),
    json('configuration.json', maskedConfiguration(facts.configFile)),
    json('pins.json', facts.pins()),
    json('versions.json', { ...versions(), kernel: release(), machine: arch() }),
    ...ofProcess('plugin', await facts.pluginProcess()),
    ...ofProcess('token', await facts.tokenProcess()),
    ...(log === undefined ? [] : [text('log.txt', lastLogLines(log))]),
  ];
  writeNew(file, tar(entries, facts.around.now()));
}

const text = (name: string, contents: string): Entry => ({
  name: `kms-plugin-doctor/${name}`,
  contents: Buffer.from(contents),
});

const json = (name: string, value: unknown): Entry => text(name, `${JSON.stringify(value, undefined, 2)}\n`);

function ofProcess(name: string, process: Process | undefined): Entry[] {
  return HARMLESS.flatMap((file) => {
    const contents = process?.read(file);
    return contents === undefined ? [] : [text(`proc-${name}-${file}.txt`, contents)];
  });
}

function writeNew(file: string, contents: Buffer): void {
  const descriptor = openSync(file, 'wx', 0o600);
  try {
    for (let done = 0; done < contents.length;) done += writeSync(descriptor, contents, done);
    fsyncSync(descriptor);
  } catch (error) {
    rmSync(file, { force: true });
    throw error;
  } finally {
    closeSync(descriptor);
  }
}
