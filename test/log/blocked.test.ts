import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, describe, it } from 'node:test';

const directory = mkdtempSync(path.join(tmpdir(), 'kms-log-'));
after(() => rmSync(directory, { recursive: true }));

/** Logs 20 MB, then says on standard error how long its event loop stood still at most and how much memory it took. */
const CHATTER = `
  import { createLogger } from '${path.resolve(import.meta.dirname, '../../src/log/index.ts')}';
  import { writeSync } from 'node:fs';
  const log = createLogger({ level: 'info' });
  const before = process.memoryUsage().rss;
  for (let line = 0; line < 20000; line++) {
    log.info('x'.repeat(1000), { line });
    if (line % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  writeSync(2, JSON.stringify({ grown: process.memoryUsage().rss - before }));
  await log.flush(200);
  process.exit(0);
`;

function chatter(stdout: number | 'pipe') {
  return spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', CHATTER], {
    stdio: ['ignore', stdout, 'pipe'],
    cwd: path.resolve(import.meta.dirname, '../..'),
  });
}

function ending(child: ReturnType<typeof chatter>): Promise<{ code: number | null; said: string }> {
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => (said += chunk.toString()));
  return new Promise((resolve) => child.on('close', (code) => resolve({ code, said })));
}

describe('the log on standard output', () => {
  it('does not hold the program, nor fill its memory, when the pipe is full', { timeout: 60_000 }, async () => {
    const child = chatter('pipe');
    child.stdout?.pause();
    const { code, said } = await new Promise<{ code: number | null; said: string }>((resolve) => {
      let text = '';
      child.stderr?.on('data', (chunk: Buffer) => (text += chunk.toString()));
      child.on('exit', (status) => resolve({ code: status, said: text }));
    });
    child.stdout?.destroy();
    assert.equal(code, 0, said);
    const { grown } = JSON.parse(said) as { grown: number };
    assert.ok(grown < 120 << 20, `grew by ${grown} bytes`);
  });

  it('goes on when the disk is full', { timeout: 60_000 }, async () => {
    const full = openSync('/dev/full', constants.O_WRONLY);
    const { code, said } = await ending(chatter(full));
    closeSync(full);
    assert.equal(code, 0, said);
  });

  it('writes whole lines into a file', { timeout: 60_000 }, async () => {
    const file = path.join(directory, 'log');
    const out = openSync(file, 'a');
    const { code, said } = await ending(chatter(out));
    closeSync(out);
    assert.equal(code, 0, said);
    const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
    assert.equal(lines.length, 20_000);
    assert.equal((JSON.parse(lines.at(-1) ?? '') as { line: number }).line, 19_999);
  });

  it('ends no program when the reader goes away', { timeout: 60_000 }, async () => {
    const child = chatter('pipe');
    child.stdout?.once('data', () => child.stdout?.destroy());
    const { code, said } = await ending(child);
    assert.equal(code, 0, said);
  });
});
