/** Another user than the plugin's own, and one whom the file system shuts out: what the program says to them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, realpathSync, rmSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { firstFailure, Place } from './place.ts';

const BUNDLE = path.resolve(import.meta.dirname, '../../dist/kms-plugin.cjs');
const OTHER = 12_345;
const isRoot = process.getuid?.() === 0;

/** The program without the rights by which root enters and writes everywhere; another user lacks them anyway. */
function shutOut(args: readonly string[], cwd?: string): { stdout: string; stderr: string; status: number | null } {
  const drop = ['setpriv', '--bounding-set=-dac_override,-dac_read_search', '--inh-caps=-all'];
  const [command = '', ...rest] = [...(isRoot ? drop : []), process.execPath, BUNDLE, ...args];
  return spawnSync(command, rest, { encoding: 'utf8', timeout: 60_000, ...(cwd === undefined ? {} : { cwd }) });
}

let place: Place;
before(async () => {
  place = await Place.make();
});
after(() => place.cleanup());

describe('serve as a user who may not make its socket', () => {
  it('says which directory, whose it is, and who must be let in', () => {
    const run = place.at('run');
    chmodSync(run, 0o500);
    try {
      const { status, stdout, stderr } = shutOut(['serve', '--config', place.installation.config]);
      const all = stdout + stderr;
      assert.notEqual(status, 0);
      assert.match(
        all,
        /run cannot be entered or written to by user \d+ \(EACCES; it belongs to user \d+, mode 0500\)/,
      );
      assert.match(all, /who may enter it and write there/);
      assert.doesNotMatch(all, /^listen EACCES/m);
    } finally {
      chmodSync(run, 0o700);
    }
  });
});

describe(
  'doctor of another user than the owner of state_dir',
  { skip: !isRoot && 'only root gives files away' },
  () => {
    const state = (): string => place.at('state');

    it('is told to run as that user, never to give it to itself, while the service is down', async () => {
      mkdirSync(state(), { recursive: true, mode: 0o700 });
      chownSync(state(), OTHER, OTHER);
      const { lines } = await place.doctor();
      const line = lines.find(({ check }) => check === 'state_dir');
      assert.match(line?.mend ?? '', new RegExp(`run doctor as that user \\(setpriv --reuid ${OTHER}`));
      for (const { mend } of lines) assert.doesNotMatch(mend ?? '', /chown/);
      chownSync(state(), 0, 0);
    });

    it('is told of both users when the service runs as another one than the owner', async () => {
      place.start();
      await place.well();
      chownSync(state(), OTHER, OTHER);
      try {
        const diagnosis = await place.doctor();
        const line = firstFailure(diagnosis);
        assert.equal(line?.check, 'state_dir', JSON.stringify(diagnosis.lines));
        assert.match(line.seen, new RegExp(`belongs to user ${OTHER}, and the plugin runs as user 0`));
        assert.match(line.mend ?? '', new RegExp(`^run the plugin as user ${OTHER}; only if`));
      } finally {
        chownSync(state(), 0, 0);
      }
    });
  },
);

describe('doctor --bundle in a directory that is not open to its user', () => {
  it('names a place that is, and the archive can be written there', () => {
    const closed = mkdtempSync(path.join(realpathSync(tmpdir()), 'closed-'));
    const archive = `doctor2-${process.pid}.tar`;
    chmodSync(closed, 0o500);
    try {
      const args = ['doctor', '--config', place.installation.config, '--bundle'];
      const { stderr } = shutOut([...args, archive], closed);
      const named = /may not write to .*closed-\w+ \(EACCES\); take (\S+)$/m.exec(stderr)?.[1];
      assert.ok(named !== undefined, stderr);
      assert.match(shutOut([...args, named], closed).stdout, /is written \(mode 0600\)/);
      rmSync(named);
    } finally {
      chmodSync(closed, 0o700);
      rmdirSync(closed);
    }
  });
});
