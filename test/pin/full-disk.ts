/**
 * The PIN memory on a disk that is full, and on one that is read-only. Runs as root of a mount namespace of its own.
 * Arguments: a directory, and what to mount there: "tmpfs", or the image of a file system.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { clearPins, describePins } from '../../src/token/pin/index.ts';
import type { LoginOutcome } from '../../src/token/pin/index.ts';
import { carryOut } from './login-process.ts';
import type { LoginOrder } from './login-process.ts';

const [root = '', device = ''] = process.argv.slice(2);
const stateDir = join(root, 'mounted', 'state');
const filler = join(root, 'mounted', 'filler');
const counter = join(root, 'calls');

const login = (pin: string, wish: Partial<LoginOrder> = {}): Promise<LoginOutcome> =>
  carryOut({ stateDir, counter, pin, ...wish });
const calls = (): string => readFileSync(counter, 'utf8').replaceAll('\n', ' ').trim();

/** Writes until not one byte more fits. */
function fillUp(): void {
  const descriptor = openSync(filler, 'a');
  for (let size = 65_536; size > 0;) {
    try {
      writeSync(descriptor, Buffer.alloc(size, 1));
      fsyncSync(descriptor);
    } catch (error) {
      assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
      size = Math.floor(size / 2);
    }
  }
  closeSync(descriptor);
}

async function noMemoryYet(): Promise<void> {
  fillUp();
  const later = await login('right');
  assert.equal(later.kind, 'later', 'no room for the memory: no login');
  assert.match(later.reason, /state_dir .*ENOSPC/);
  assert.equal(calls(), '');
  assert.ok(readdirSync(stateDir).every((name) => name === 'login.lock'));
  rmSync(filler);
  assert.equal((await login('right')).kind, 'logged-in');
  assert.equal(calls(), 'right');
}

async function memoryMade(): Promise<void> {
  fillUp();
  const first = await login('wrong', { answer: 'CKR_PIN_INCORRECT' });
  assert.ok(first.kind === 'refused' && first.remembered, 'remembered though the disk is full');
  for (let i = 0; i < 45; i++) {
    const pin = `wrong-${i}`;
    const outcome = await login(pin, { answer: 'CKR_PIN_INCORRECT' });
    assert.ok(outcome.kind === 'refused' && outcome.remembered);
  }
  assert.equal((await login('wrong')).kind, 'refused');
  assert.equal((await login('right')).kind, 'logged-in', 'the right PIN is not blocked');
  assert.equal(
    calls()
      .split(' ')
      .filter((pin) => pin === 'wrong').length,
    1,
  );
  assert.equal(describePins(stateDir).filter((pin) => pin.state === 'refused').length, 46);
  assert.equal(await clearPins(stateDir), 47, 'clearing works too');
  assert.equal((await login('wrong', { answer: 'CKR_PIN_INCORRECT' })).kind, 'refused');
}

async function damaged(): Promise<void> {
  const descriptor = openSync(join(stateDir, 'pin-memory'), 'r+');
  writeSync(descriptor, Buffer.alloc(65_536, 1), 0, 65_536, 0);
  closeSync(descriptor);
  assert.equal((await login('right')).kind, 'refused');
  await clearPins(stateDir);
  assert.equal((await login('right')).kind, 'logged-in', 'a damaged memory is mended without room for another');
}

async function readOnly(): Promise<void> {
  const before = calls();
  execFileSync('mount', ['-o', 'remount,ro', join(root, 'mounted')]);
  const later = await login('right');
  assert.ok(later.kind === 'later' && later.reason.includes('EROFS'), JSON.stringify(later));
  assert.equal(calls(), before, 'no login that cannot be remembered');
  assert.equal(describePins(stateDir).length, 1, 'what is remembered can be read');
}

async function main(): Promise<void> {
  mkdirSync(join(root, 'mounted'));
  const options = device === 'tmpfs' ? ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs'] : ['-o', 'loop', device];
  execFileSync('mount', [...options, join(root, 'mounted')]);
  mkdirSync(stateDir);
  closeSync(openSync(counter, 'w'));
  await noMemoryYet();
  await memoryMade();
  await damaged();
  await readOnly();
  process.stdout.write('all of it\n');
}

void main();
