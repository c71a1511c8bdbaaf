import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';

// PIN_TEST_IMAGE: the image of a file system of a few MiB (ext4 …) to use instead of a tmpfs.
it('a full or read-only disk neither forgets a refused PIN nor lets one be tried without a record', () => {
  const root = mkdtempSync(join(tmpdir(), 'pin-disk-test-'));
  // Mounting needs root, or a user namespace in which this user is root.
  const namespace = process.getuid?.() === 0 ? ['--mount'] : ['--map-root-user', '--mount'];
  const script = join(import.meta.dirname, 'full-disk.ts');
  try {
    const said = execFileSync(
      'unshare',
      [...namespace, process.execPath, '--import', 'tsx', script, root, process.env['PIN_TEST_IMAGE'] ?? 'tmpfs'],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
    );
    assert.equal(said, 'all of it\n');
  } finally {
    rmSync(root, { recursive: true });
  }
});
