/** The small files in state_dir, where the disk does not take all of one. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { StateFile } from '../../src/state/index.ts';

test('a file that the disk takes a part of leaves the older one', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'state-file-'));
  const limit = (bytes: string): Buffer => execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:`]);
  try {
    const file = new StateFile<string[]>(path.join(directory, 'small.json'));
    file.write(['older']);
    limit('4096');
    // write(2) takes the first 4,096 bytes and says so; only the next one fails.
    assert.throws(() => file.write(['x'.repeat(10_000)]));
    limit('unlimited');
    assert.deepEqual(file.read(), ['older']);
    assert.deepEqual(readdirSync(directory), ['small.json']);
  } finally {
    limit('unlimited');
    rmSync(directory, { recursive: true });
  }
});

test('a FIFO in its place is refused, and not waited for', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'state-file-'));
  try {
    const fifo = path.join(directory, 'fifo.json');
    execFileSync('mkfifo', [fifo]);
    const { href } = pathToFileURL(path.resolve(import.meta.dirname, '../../src/state/index.ts'));
    const read = `import { StateFile } from '${href}'; new StateFile(process.argv[1]).read();`;
    const args = ['--import', 'tsx', '--input-type=module', '--eval', read, fifo];
    const { stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 20_000 });
    assert.match(stderr, /it is no regular file/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
