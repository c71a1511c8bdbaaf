import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

const MODULE = path.resolve(import.meta.dirname, '../../src/service/state-dir.ts');

test('a state_dir that cannot be made on a read-only file system: said so, with the mend', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'state-dir-'));
  // Mounting needs root, or a user namespace in which this user is root.
  const namespace = process.getuid?.() === 0 ? ['--mount'] : ['--map-root-user', '--mount'];
  const script = 'mount -t tmpfs -o ro state "$1" && exec "$2" --import tsx --input-type=module --eval "$3"';
  const code = `import { prepareStateDir } from ${JSON.stringify(MODULE)};
    try { prepareStateDir(${JSON.stringify(path.join(directory, 'state'))}); }
    catch (error) { console.log(error.name + ': ' + error.message); }`;
  try {
    const args = [...namespace, 'sh', '-c', script, 'sh', directory, process.execPath, code];
    const said = execFileSync('unshare', args, { encoding: 'utf8' });
    assert.match(said, /^StartError: cannot make state_dir .*EROFS.*: make its file system writable again \(dmesg/);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
