import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { isLocked } from '../../src/doctor/look/locks.ts';
import { lockFile } from '../../src/lock/index.ts';

const directory = mkdtempSync(path.join(tmpdir(), 'locks-'));
after(() => rmSync(directory, { recursive: true }));

const MODULES = path.join(import.meta.dirname, '../../src');
/** Says whether a file looks locked before, while and after it is, by the kernel's view from inside a pid namespace. */
const SCRIPT = `
  import { isLocked } from '${MODULES}/doctor/look/locks.ts';
  import { lockFile } from '${MODULES}/lock/index.ts';
  const file = process.argv[1];
  const seen = [isLocked('/proc', file)];
  const lock = await lockFile(file, { waitMs: 0 });
  seen.push(isLocked('/proc', file), isLocked('/proc', file + '.other'));
  lock.release();
  seen.push(isLocked('/proc', file));
  console.log(JSON.stringify(seen));
`;

describe('whether a lock is held', () => {
  test('is seen without taking it', async () => {
    const file = path.join(directory, 'serve.lock');
    assert.equal(isLocked('/proc', file), false, 'no such file');
    const lock = await lockFile(file, { waitMs: 0 });
    assert.equal(isLocked('/proc', file), true);
    lock.release();
    assert.equal(isLocked('/proc', file), false);
  });

  test('is seen in a container, whose /proc/locks leaves it out', () => {
    const file = path.join(directory, 'inside.lock');
    const node = [process.execPath, '--import', 'tsx', '--input-type=module', '-e', SCRIPT, file];
    // A namespace needs root, or a user namespace in which this user is root.
    const namespace = [...(process.getuid?.() === 0 ? [] : ['--map-root-user']), '--pid', '--fork', '--mount-proc'];
    const { status, stdout, stderr } = spawnSync('unshare', [...namespace, ...node], {
      encoding: 'utf8',
      cwd: path.join(import.meta.dirname, '../..'),
    });
    assert.equal(status, 0, stderr);
    assert.deepEqual(JSON.parse(stdout), [false, true, false, false]);
  });
});
