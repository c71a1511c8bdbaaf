import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { readPinFile } from '../../src/token/pin/index.ts';

let dir = '';
let path = '';

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'pin-file-test-'));
  path = join(dir, 'pin');
});
afterEach(() => rmSync(dir, { recursive: true }));

const read = (content: string | Buffer, newline?: 'keep' | 'strip'): string => {
  writeFileSync(path, content);
  return readPinFile(path, newline).toString('latin1');
};
const latin1 = (text: string): string => Buffer.from(text).toString('latin1');

describe('readPinFile', () => {
  for (const pin of [
    '1234',
    ' a b\t',
    '1\uFEFF',
    '\u00ef\u00bb',
    'pässword\u{1F511}',
    'a\nb',
    'a\r',
    'x'.repeat(1024),
  ]) {
    it(`gives the bytes as they are: ${JSON.stringify(pin.slice(0, 20))}`, () => {
      for (const newline of [undefined, 'keep', 'strip'] as const) assert.equal(read(pin, newline), latin1(pin));
    });
  }

  it('decides about a line feed at the end only as told', () => {
    assert.throws(() => read('1234\n'), /pin_file .*ends in a line feed.*pin_file_newline: strip/);
    assert.equal(read('1234\n', 'keep'), '1234\n');
    assert.equal(read('1234\n', 'strip'), '1234');
    assert.equal(read('1234\r\n', 'strip'), '1234');
    assert.equal(read('1234\n\n', 'strip'), '1234\n');
  });

  for (const mark of ['efbbbf', 'fffe', 'feff']) {
    it(`refuses a byte order mark (${mark}) as a part of the PIN, whatever stands behind it`, () => {
      for (const newline of [undefined, 'keep', 'strip'] as const) {
        assert.throws(() => read(Buffer.from(`${mark}31323334`, 'hex'), newline), /begins with a byte order mark/);
        assert.throws(() => read(Buffer.from(mark, 'hex'), newline), /begins with a byte order mark/);
      }
    });
  }

  it('refuses a file without a PIN', () => {
    assert.throws(() => read(''), /is empty: put the PIN into it/);
    assert.throws(() => read('\n', 'strip'), /is empty/);
  });

  it('refuses what is not UTF-8, without showing it', () => {
    assert.throws(
      () => read(Buffer.from('7391\xff', 'latin1')),
      (error: Error) => error.message.includes('not UTF-8') && !error.message.includes('7391'),
    );
  });

  it('refuses what cannot be a PIN file', () => {
    assert.throws(() => read('x'.repeat(1025)), /more than 1024 bytes/);
    assert.throws(() => readPinFile(dir), /not a regular file/);
    assert.throws(() => readPinFile('/dev/zero'), /not a regular file/);
    assert.throws(() => readPinFile(join(dir, 'none')), /pin_file .*none: there is no such file/);
    const fifo = join(dir, 'fifo');
    execFileSync('mkfifo', [fifo]);
    assert.throws(() => readPinFile(fifo), /not a regular file/);
  });

  it('follows a symbolic link, as secrets are mounted', () => {
    writeFileSync(path, '1234');
    symlinkSync(path, join(dir, 'link'));
    assert.equal(readPinFile(join(dir, 'link')).toString(), '1234');
  });

  it('gives memory that no other buffer shares, so that zeroing it zeroes the PIN', () => {
    writeFileSync(path, '1234');
    const pin = readPinFile(path);
    assert.equal(pin.buffer.byteLength, 1025);
  });
});
