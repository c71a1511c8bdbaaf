import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';

const directory = mkdtempSync(path.join(tmpdir(), 'kms-core-'));
after(() => rmSync(directory, { recursive: true }));

const door = path.resolve(import.meta.dirname, '../../src/process/index.ts');
const tsx = path.resolve(import.meta.dirname, '../../node_modules/tsx/dist/esm/index.mjs');

/** Runs a program that aborts, with no limit for core files, in an empty directory; gives what it said and left. */
function aborting(name: string, program: string) {
  const cwd = path.join(directory, name);
  const script =
    'mkdir -p "$1" && cd "$1" && ulimit -c unlimited && exec "$2" --import "$3" --input-type=module -e "$4"';
  const run = spawnSync('bash', ['-c', script, 'bash', cwd, process.execPath, tsx, program], { encoding: 'utf8' });
  return { run, cores: readdirSync(cwd).filter((file) => file.startsWith('core')) };
}

const SHOW = `
  import { readFileSync } from 'node:fs';
  import { spawnSync } from 'node:child_process';
  const show = (pid) => ({
    limits: /^Max core file size +(\\S+) +(\\S+)/m.exec(readFileSync('/proc/' + pid + '/limits', 'utf8')).slice(1),
    filter: readFileSync('/proc/' + pid + '/coredump_filter', 'utf8').trim(),
  });
  const shown = JSON.stringify([show('self'), JSON.parse(spawnSync(process.execPath, ['-e',
    'console.log(JSON.stringify(require("fs").readFileSync("/proc/self/coredump_filter", "utf8").trim()))'],
    { encoding: 'utf8' }).stdout)]);
`;
const ABORT = `await new Promise((resolve) => process.stdout.write(shown, resolve)); process.kill(process.pid, 'SIGABRT');`;

describe('core files', () => {
  // What the test could see if prevention failed: without it this machine writes a core file here.
  const writesFiles = !readFileSync('/proc/sys/kernel/core_pattern', 'utf8').startsWith('|');

  it('appear without prevention, where the kernel writes files', () => {
    const { run, cores } = aborting('without', `${SHOW}${ABORT}`);
    assert.equal(run.signal, 'SIGABRT', run.stderr);
    assert.deepEqual((JSON.parse(run.stdout) as [{ limits: string[] }])[0].limits[0], 'unlimited');
    if (writesFiles && readFileSync('/proc/sys/kernel/core_pattern', 'utf8').trim() === 'core') {
      assert.equal(cores.length, 1);
    }
  });

  it('do not appear with it: limit 0, no mapping in the filter, children included', () => {
    const program = `import { preventCoreFiles } from '${door}'; const result = preventCoreFiles();
      if (!result.ok) throw new Error(result.problems.join()); ${SHOW}${ABORT}`;
    const { run, cores } = aborting('with', program);
    assert.equal(run.signal, 'SIGABRT', run.stderr);
    assert.deepEqual(JSON.parse(run.stdout), [{ limits: ['0', '0'], filter: '00000000' }, '00000000']);
    assert.deepEqual(cores, []);
  });
});
