import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { LockHeldError, lockFile } from '../../src/lock/index.ts';

let dir = '';
let path = '';
let started: ChildProcess[] = [];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lock-test-'));
  path = join(dir, 'serve.lock');
});

afterEach(() => {
  for (const child of started) child.kill('SIGKILL');
  started = [];
  rmSync(dir, { recursive: true });
});

interface Holder {
  readonly process: ChildProcess;
  readonly said: string;
}

async function startHolder(waitMs: number, ...more: string[]): Promise<Holder> {
  const holder = join(import.meta.dirname, 'holder.ts');
  const child = spawn(process.execPath, ['--import', 'tsx', holder, path, String(waitMs), ...more], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  started.push(child);
  const [said] = (await once(child.stdout, 'data')) as [Buffer];
  return { process: child, said: said.toString().trim() };
}

async function kill(holder: Holder): Promise<void> {
  holder.process.kill('SIGKILL');
  await once(holder.process, 'exit');
}

const isHeld = (error: unknown): boolean => error instanceof LockHeldError && error.path === path;

/** The descriptors of this process that are open on `path`. */
const descriptorsOn = (pid: number | 'self'): number =>
  readdirSync(`/proc/${pid}/fd`).filter((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith(path);
    } catch {
      return false;
    }
  }).length;

describe('lockFile', () => {
  it('creates the file for its owner alone, and leaves it there', async () => {
    const lock = await lockFile(path, { waitMs: 0 });
    lock.release();
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  it('keeps out this process too, until released', async () => {
    const lock = await lockFile(path, { waitMs: 0 });
    await assert.rejects(lockFile(path, { waitMs: 0 }), isHeld);
    lock.release();
    lock.release();
    (await lockFile(path, { waitMs: 0 })).release();
    assert.equal(descriptorsOn('self'), 0);
  });

  it('keeps out another process; killing the holder frees it at once', async () => {
    const holder = await startHolder(0);
    assert.equal(holder.said, 'held 0');
    await assert.rejects(lockFile(path, { waitMs: 0 }), isHeld);
    assert.equal((await startHolder(0)).said, 'refused');
    await kill(holder);
    (await lockFile(path, { waitMs: 0 })).release();
  });

  it('is not kept by a child of the holder', async () => {
    const holder = await startHolder(0, 'child');
    const child = Number(holder.said.split(' ')[1]);
    try {
      assert.equal(descriptorsOn(child), 0);
      await kill(holder);
      process.kill(child, 0);
      (await lockFile(path, { waitMs: 0 })).release();
    } finally {
      process.kill(child, 'SIGKILL');
    }
  });

  it('waits no longer than it may, and leaves no descriptor open', async () => {
    await startHolder(0);
    const from = performance.now();
    await assert.rejects(lockFile(path, { waitMs: 300 }), isHeld);
    assert.ok(performance.now() - from >= 300);
    assert.equal(descriptorsOn('self'), 0);
  });

  it('gets the lock when the holder goes while it waits', async () => {
    const holder = await startHolder(0);
    const waiting = lockFile(path, { waitMs: 60_000 });
    setTimeout(() => holder.process.kill('SIGKILL'), 100);
    (await waiting).release();
  });

  it('serves everyone who waits, one at a time', async () => {
    let inside = 0;
    const take = async (): Promise<void> => {
      const lock = await lockFile(path, { waitMs: 60_000 });
      assert.equal(++inside, 1);
      await new Promise((resolve) => setTimeout(resolve, 2));
      inside--;
      lock.release();
    };
    await Promise.all(Array.from({ length: 20 }, take));
  });

  it('locks the file that has the name now, when it was replaced during the wait', async () => {
    const old = await lockFile(path, { waitMs: 0 });
    const waiting = lockFile(path, { waitMs: 60_000 });
    setTimeout(() => {
      renameSync(path, `${path}.old`);
      writeFileSync(path, '');
      old.release();
    }, 200);
    const lock = await waiting;
    await assert.rejects(lockFile(path, { waitMs: 0 }), isHeld);
    lock.release();
  });

  it('makes the file anew when it was removed during the wait', async () => {
    const old = await lockFile(path, { waitMs: 0 });
    const waiting = lockFile(path, { waitMs: 60_000 });
    setTimeout(() => {
      rmSync(path);
      old.release();
    }, 200);
    const lock = await waiting;
    await assert.rejects(lockFile(path, { waitMs: 0 }), isHeld);
    lock.release();
  });

  it('waits on when the program flock is killed, as by a signal for the process group', async () => {
    const bin = join(dir, 'bin');
    mkdirSync(bin);
    // The first run is killed, later ones are the real program.
    writeFileSync(
      join(bin, 'flock'),
      `#!/bin/sh\nif [ ! -e ${dir}/ran ]; then : > ${dir}/ran; kill -TERM $$; fi\nexec /usr/bin/env PATH=/usr/bin:/bin flock "$@"\n`,
    );
    chmodSync(join(bin, 'flock'), 0o700);
    await withPath(`${bin}:/usr/bin:/bin`, async () => {
      (await lockFile(path, { waitMs: 60_000 })).release();
    });
    assert.ok(statSync(join(dir, 'ran')).isFile());
  });

  it('says what is missing when there is no program flock', async () => {
    await withPath(dir, async () => {
      await assert.rejects(lockFile(path, { waitMs: 0 }), /flock is not on PATH; install the package util-linux/);
    });
    assert.equal(descriptorsOn('self'), 0);
  });

  it('passes on what flock complains about', async () => {
    const bin = join(dir, 'bin');
    mkdirSync(bin);
    writeFileSync(join(bin, 'flock'), '#!/bin/sh\necho no locks available >&2\nexit 71\n', { mode: 0o700 });
    await withPath(bin, async () => {
      await assert.rejects(lockFile(path, { waitMs: 0 }), /flock ended with status 71: no locks available/);
    });
  });

  it('needs its directory', async () => {
    const missing = join(dir, 'none', 'serve.lock');
    await assert.rejects(lockFile(missing, { waitMs: 0 }), { code: 'ENOENT', message: /there is no directory .*none/ });
  });

  it('follows no symbolic link and locks no directory', async () => {
    symlinkSync(join(dir, 'elsewhere'), path);
    const message = /serve\.lock is a symbolic link, .*: remove it \(rm .*serve\.lock\)/;
    await assert.rejects(lockFile(path, { waitMs: 0 }), { code: 'ELOOP', message });
    assert.equal(existsSync(join(dir, 'elsewhere')), false);
    await assert.rejects(lockFile(dir, { waitMs: 0 }), { code: 'EISDIR', message: /must be a regular file .*remove/ });
  });

  it('says that a circle of links is on the way', async () => {
    symlinkSync('round', join(dir, 'round'));
    const message = /cannot be reached: .*in a circle/;
    await assert.rejects(lockFile(join(dir, 'round', 'serve.lock'), { waitMs: 0 }), { code: 'ELOOP', message });
  });

  it('says that a file system is read-only, and what to do', () => {
    // Mounting needs root, or a user namespace in which this user is root.
    const namespace = process.getuid?.() === 0 ? ['--mount'] : ['--map-root-user', '--mount'];
    const script = 'mount -t tmpfs -o ro lock-test "$1" && exec "$2" --import tsx "$3" "$1/serve.lock" 0';
    const holder = join(import.meta.dirname, 'holder.ts');
    const said = execFileSync('unshare', [...namespace, 'sh', '-c', script, 'sh', dir, process.execPath, holder], {
      encoding: 'utf8',
    });
    assert.match(
      said,
      /serve\.lock cannot be opened: the file system of .* is read-only \(EROFS\); make it writable again/,
    );
  });
});

async function withPath(value: string, body: () => Promise<void>): Promise<void> {
  const before = process.env['PATH'];
  process.env['PATH'] = value;
  try {
    await body();
  } finally {
    process.env['PATH'] = before;
  }
}
