import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  watch,
  writeFileSync,
} from 'node:fs';
import http from 'node:http';
import { connect, createServer, type Server } from 'node:net';
import path from 'node:path';
import { test, type TestContext } from 'node:test';
import { lockFile } from '../../src/lock/index.ts';
import { claimSocket, type SocketClaim, SocketError, type SocketTrouble } from '../../src/socket/index.ts';
import { temporaryDirectory, until } from './support/fixture.ts';

function newServer(): Server {
  return createServer((socket) => socket.on('error', () => undefined).end('hello'));
}

async function claimed(t: TestContext, socketPath: string, mode = 0o600): Promise<SocketClaim> {
  const claim = await claimSocket(newServer(), { kind: 'path', path: socketPath }, { mode });
  t.after(() => claim.release());
  return claim;
}

function ask(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    connect({ path: socketPath })
      .on('data', (chunk) => (text += chunk.toString()))
      .on('end', () => resolve(text))
      .on('error', reject);
  });
}

async function rejectsWith(claim: Promise<unknown>, trouble: SocketTrouble, message: RegExp): Promise<void> {
  await assert.rejects(claim, (error: unknown) => {
    assert.ok(error instanceof SocketError);
    assert.equal(error.trouble, trouble);
    assert.match(error.message, message);
    return true;
  });
}

/** A socket file whose owner was killed. */
function leaveStale(socketPath: string): void {
  const script = `require('node:net').createServer().listen(process.argv[1], () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', script, socketPath]);
  assert.ok(lstatSync(socketPath).isSocket());
}

test('nothing there: the socket is claimed, with its mode, beside a lock that only we may read', async (t) => {
  const directory = temporaryDirectory(t);
  const socketPath = path.join(directory, 'a.sock');
  for (const mode of [0o600, 0o660, 0o666]) {
    const claim = await claimSocket(newServer(), { kind: 'path', path: socketPath }, { mode });
    assert.equal(lstatSync(socketPath).mode & 0o777, mode);
    assert.equal(lstatSync(path.join(directory, 'socket.lock')).mode & 0o777, 0o600);
    assert.equal(await ask(socketPath), 'hello');
    assert.deepEqual(readdirSync(directory).sort(), ['a.sock', 'socket.lock']);
    await Promise.all([claim.release(), claim.release()]);
    assert.deepEqual(readdirSync(directory), ['socket.lock']);
  }
});

test('the umask comes back, whatever happens', async (t) => {
  const directory = temporaryDirectory(t);
  const before = process.umask(0o027);
  t.after(() => process.umask(before));
  await claimed(t, path.join(directory, 'a.sock'));
  assert.equal(process.umask(0o027), 0o027);
  await assert.rejects(claimed(t, path.join(directory, 'x'.repeat(120))));
  assert.equal(process.umask(0o027), 0o027);
});

test('under no name is it ever more open than its mode, and never under its own without listening', async (t) => {
  const directory = temporaryDirectory(t);
  const socketPath = path.join(directory, 'a.sock');
  const before = process.umask(0);
  t.after(() => process.umask(before));
  const modes = new Map<string, Set<number>>();
  const watcher = watch(directory, (_, name) => {
    if (name === null || name === 'socket.lock') return;
    const mode = lstatSync(path.join(directory, name), { throwIfNoEntry: false })?.mode;
    if (mode !== undefined) modes.set(name, (modes.get(name) ?? new Set()).add(mode & 0o777));
  });
  t.after(() => watcher.close());
  const names = new Set<string>();
  const server = newServer();
  const listen = server.listen.bind(server) as (options: { path: string }) => Server;
  server.listen = ((options: { path: string }) => {
    const result = listen(options);
    names.add(options.path);
    assert.equal(lstatSync(options.path).mode & 0o777, 0o600, 'right after bind(2), at a umask of 0');
    assert.equal(existsSync(socketPath), false, 'not under its own name yet');
    return result;
  }) as Server['listen'];
  const claim = await claimSocket(server, { kind: 'path', path: socketPath }, { mode: 0o600 });
  t.after(() => claim.release());
  assert.equal(names.size, 1);
  const [temporary] = [...names];
  assert.match(temporary ?? '', /a\.sock\.[0-9a-f]{8}$/);
  await until(() => modes.has('a.sock'));
  for (const [name, seen] of modes) assert.deepEqual([...seen], [0o600], name);
});

test('a socket that nobody answers at is replaced', async (t) => {
  const socketPath = path.join(temporaryDirectory(t), 'a.sock');
  leaveStale(socketPath);
  await claimed(t, socketPath);
  assert.equal(await ask(socketPath), 'hello');
});

test('a live socket is left alone', async (t) => {
  const socketPath = path.join(temporaryDirectory(t), 'a.sock');
  await claimed(t, socketPath);
  const { ino } = lstatSync(socketPath);
  await rejectsWith(claimed(t, socketPath), 'in-use', /a\.sock is in use/);
  assert.equal(lstatSync(socketPath).ino, ino);
  assert.equal(await ask(socketPath), 'hello');
});

test('a live socket whose backlog is full is live', async (t) => {
  const socketPath = path.join(temporaryDirectory(t), 'a.sock');
  const script = `
import socket, sys, time
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(0)
c = [socket.socket(socket.AF_UNIX) for _ in range(4)]
for x in c:
    x.setblocking(False)
    try: x.connect(sys.argv[1])
    except BlockingIOError: pass
print('full', flush=True); time.sleep(60)`;
  const child = spawn('python3', ['-c', script, socketPath], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  await new Promise((resolve) => child.stdout.once('data', resolve));
  await rejectsWith(claimed(t, socketPath), 'in-use', /in use/);
});

test('what is no socket is left alone', async (t) => {
  const directory = temporaryDirectory(t);
  const socketPath = path.join(directory, 'a.sock');
  const refused = (): Promise<void> => rejectsWith(claimed(t, socketPath), 'not-a-socket', /is not a socket/);
  writeFileSync(socketPath, 'precious');
  await refused();
  assert.equal(readFileSync(socketPath, 'utf8'), 'precious');
  rmSync(socketPath);
  mkdirSync(socketPath);
  await refused();
  assert.ok(lstatSync(socketPath).isDirectory());
  rmSync(socketPath, { recursive: true });
  leaveStale(path.join(directory, 'target'));
  symlinkSync(path.join(directory, 'target'), socketPath);
  await refused();
  assert.ok(lstatSync(socketPath).isSymbolicLink());
  assert.ok(lstatSync(path.join(directory, 'target')).isSocket());
});

test('a directory that is missing is not made', async (t) => {
  const directory = temporaryDirectory(t);
  const missing = path.join(directory, 'run', 'a.sock');
  await rejectsWith(claimed(t, missing), 'no-directory', /directory .*run .*does not exist/);
  assert.equal(existsSync(path.join(directory, 'run')), false);
  writeFileSync(path.join(directory, 'run'), '');
  await rejectsWith(claimed(t, missing), 'no-directory', /run, where .* is not a directory/);
});

test('a path that is too long, and an address that the system refuses', async (t) => {
  const directory = temporaryDirectory(t);
  await rejectsWith(claimed(t, path.join(directory, 'x'.repeat(120))), 'failed', /cannot listen on .*xxx/);
  assert.deepEqual(readdirSync(directory), ['socket.lock']);
});

test('what dead predecessors left under temporary names is removed, and nothing else', async (t) => {
  const directory = temporaryDirectory(t);
  const at = (name: string): string => path.join(directory, name);
  leaveStale(at('a.sock.0123abcd'));
  leaveStale(at('b.sock.0123abcd'));
  leaveStale(at('a.sock.other'));
  writeFileSync(at('a.sock.89abcdef'), 'a file');
  const live = newServer().listen(at('a.sock.00000000'));
  t.after(() => live.close());
  await claimed(t, at('a.sock'));
  assert.deepEqual(readdirSync(directory).sort(), [
    'a.sock',
    'a.sock.00000000',
    'a.sock.89abcdef',
    'a.sock.other',
    'b.sock.0123abcd',
    'socket.lock',
  ]);
});

test('a name that a successor has is not removed', async (t) => {
  const directory = temporaryDirectory(t);
  const socketPath = path.join(directory, 'a.sock');
  const claim = await claimed(t, socketPath);
  renameSync(socketPath, path.join(directory, 'moved'));
  await claimed(t, socketPath);
  await claim.release();
  assert.equal(await ask(socketPath), 'hello');
  rmSync(path.join(directory, 'moved'));
});

test('a lock that another holds all the time is an error when claiming, and keeps nobody from ending', async (t) => {
  const directory = temporaryDirectory(t);
  const socketPath = path.join(directory, 'a.sock');
  const options = { mode: 0o600, lockWaitMs: 200 };
  const claim = await claimSocket(newServer(), { kind: 'path', path: socketPath }, options);
  const lock = await lockFile(path.join(directory, 'socket.lock'), { waitMs: 0 });
  t.after(() => lock.release());
  const other = claimSocket(newServer(), { kind: 'path', path: path.join(directory, 'b.sock') }, options);
  await rejectsWith(other, 'locked', /socket\.lock was held/);
  await claim.release();
  await assert.rejects(ask(socketPath), { code: 'ECONNREFUSED' });
});

test('a lock that cannot be made says why, and what to do', async (t) => {
  const directory = temporaryDirectory(t);
  mkdirSync(path.join(directory, 'socket.lock'));
  await rejectsWith(
    claimed(t, path.join(directory, 'a.sock')),
    'failed',
    /a\.sock: .*socket\.lock must be a regular file .*: remove what is there$/,
  );
});

test('an abstract name: claimed once, free again after release', async (t) => {
  const name = `kms-plugin-claim-${process.pid}`;
  const endpoint = { kind: 'abstract', name } as const;
  const claim = await claimSocket(newServer(), endpoint, { mode: 0o600 });
  assert.equal(await ask(`\0${name}`), 'hello');
  await rejectsWith(claimSocket(newServer(), endpoint, { mode: 0o600 }), 'in-use', /unix:\/\/\/@.* is in use/);
  await claim.release();
  const again = await claimSocket(newServer(), endpoint, { mode: 0o600 });
  t.after(() => again.release());
});

test('an HTTP server can be claimed for as well', async (t) => {
  const socketPath = path.join(temporaryDirectory(t), 'control.sock');
  const server = http.createServer((_, response) => response.end('over HTTP'));
  const claim = await claimSocket(server, { kind: 'path', path: socketPath }, { mode: 0o600 });
  const answer = await new Promise<string>((resolve, reject) => {
    http
      .get({ socketPath, path: '/' }, (response) => {
        response.setEncoding('utf8').on('data', resolve);
      })
      .on('error', reject);
  });
  assert.equal(answer, 'over HTTP');
  await claim.release();
  assert.equal(existsSync(socketPath), false);
});

test('a client that connects all the time while the socket is replaced finds the old one or the new', async (t) => {
  const directory = temporaryDirectory(t);
  const socketPath = path.join(directory, 'a.sock');
  chmodSync(directory, 0o700);
  let claim = await claimed(t, socketPath);
  for (let round = 0; round < 10; round++) {
    // The old one dies without a farewell: its name stays.
    renameSync(socketPath, `${socketPath}.old`);
    await claim.release();
    renameSync(`${socketPath}.old`, socketPath);
    await assert.rejects(ask(socketPath), { code: 'ECONNREFUSED' });
    claim = await claimed(t, socketPath);
    assert.equal(await ask(socketPath), 'hello');
  }
});
