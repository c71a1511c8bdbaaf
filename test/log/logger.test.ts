import assert from 'node:assert/strict';
import { describe, it, mock } from 'node:test';
import { createLogger, type LoggerOptions } from '../../src/log/index.ts';
import { StreamOutput, type OutputStream } from '../../src/log/output.ts';

/** A log that writes into an array of parsed lines. */
function capture(options: Partial<LoggerOptions> = {}) {
  const raw: string[] = [];
  const output = { write: (line: string) => void raw.push(line), flush: () => Promise.resolve() };
  const log = createLogger({ level: 'info', output, ...options });
  return { log, raw, lines: () => raw.map((line) => JSON.parse(line) as Record<string, unknown>) };
}

describe('a log line', () => {
  it('is one line of JSON with time, level, message and fields', () => {
    const { log, raw, lines } = capture();
    log.info('listening', { listener: 'credhub', time: 'mine' });
    assert.equal(raw.length, 1);
    assert.match(
      raw[0] ?? '',
      /^\{"time":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z","level":"info","message":"listening",.*\}\n$/,
    );
    assert.equal(lines()[0]?.['listener'], 'credhub');
    assert.equal(lines()[0]?.['_time'], 'mine');
  });

  it('never holds bytes, and cuts what is long', () => {
    const { log, raw, lines } = capture();
    const secret = Buffer.from('tell-nobody');
    log.info('fields', {
      bytes: secret,
      view: new Uint8Array(secret),
      memory: new Uint8Array(3).buffer,
      nested: { list: [secret, { deep: new DataView(new ArrayBuffer(5)) }] },
      jsonOfBytes: secret.toJSON(),
      plaintext: 'tell-nobody',
      data_key: 'tell-nobody',
      long: 'y'.repeat(5000),
      cause: new Error('broken', { cause: { bytes: secret } }),
    });
    const line = raw[0] ?? '';
    assert.doesNotMatch(line, /tell-nobody/);
    assert.ok(!line.includes([...secret].join(',')));
    assert.equal(lines()[0]?.['bytes'], '[11 bytes]');
    assert.deepEqual(lines()[0]?.['nested'], { list: ['[11 bytes]', { deep: '[5 bytes]' }] });
    assert.equal(lines()[0]?.['jsonOfBytes'], '[11 bytes]');
    assert.equal(lines()[0]?.['plaintext'], '[removed]');
    assert.match(String(lines()[0]?.['long']), /^y{2048}… \(2952 more characters\)$/);
    assert.equal((lines()[0]?.['cause'] as { message: string }).message, 'broken');
  });

  it('survives a field that points to itself', () => {
    const { log, raw } = capture();
    const circle: Record<string, unknown> = {};
    circle['again'] = circle;
    log.info('circle', { circle, big: 12n, none: undefined, nan: NaN });
    assert.match(raw[0] ?? '', /too deep/);
    assert.match(raw[0] ?? '', /"big":"12"/);
  });

  it('escapes everything that a terminal would act on', () => {
    const { log, raw } = capture();
    log.info('a\nb\u001b[31mred\u009b32m\u202etxet\u2028', { field: '\u007f\r' });
    const line = raw[0] ?? '';
    assert.equal(line.indexOf('\n'), line.length - 1);
    assert.doesNotMatch(line.trimEnd(), /[\u0000-\u001f\u007f-\u009f\u2028-\u202e]/);
    assert.equal((JSON.parse(line) as { message: string }).message, 'a\nb\u001b[31mred\u009b32m\u202etxet\u2028');
  });

  it('carries the room of a child, at the level that holds now', () => {
    const { log, lines } = capture();
    const token = log.child('token');
    token.debug('not yet');
    log.setLevel('debug');
    assert.equal(log.level, 'debug');
    token.debug('now');
    log.setLevel('error');
    token.warn('no more');
    assert.deepEqual(
      lines().map((line) => [line['room'], line['message']]),
      [['token', 'now']],
    );
  });
});

describe('errors that repeat', () => {
  it('make one line for each kind in 10 s, with a count, even when no further error comes', () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    try {
      const { log, lines } = capture();
      for (let call = 1; call <= 1000; call++) log.error(`call ${call} failed`, { code: 'KMS-2001', call });
      log.error('another kind', { code: 'KMS-2003' });
      assert.deepEqual(
        lines().map((line) => line['message']),
        ['call 1 failed', 'another kind'],
      );
      mock.timers.tick(10_000);
      assert.deepEqual(
        lines().slice(2),
        lines()
          .slice(2)
          .map((line) => ({ ...line, message: 'call 1000 failed', call: 1000, code: 'KMS-2001', left_out: 998 })),
      );
      assert.equal(lines().length, 3);
      log.error('call 1001 failed', { code: 'KMS-2001' });
      assert.equal(lines().length, 3, 'the summary begins another 10 s');
      mock.timers.tick(10_000);
      assert.equal(lines().length, 4);
      mock.timers.tick(10_000);
      log.error('call 1002 failed', { code: 'KMS-2001' });
      assert.equal(lines().length, 5, 'a kind that was quiet is written at once');
    } finally {
      mock.timers.reset();
    }
  });

  it('and go on saying the same are written after longer and longer pauses, at most 5 minutes', () => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'] });
    try {
      const { log, lines } = capture();
      const times: number[] = [];
      for (let second = 0; second < 3_600; second++) {
        const before = lines().length;
        log.error(`the health port is in use; tried ${second} times`, { code: 'KMS-9003' });
        mock.timers.tick(1_000);
        if (lines().length > before) times.push(second);
      }
      const pauses = times.slice(1).map((time, at) => time - (times[at] ?? 0));
      assert.deepEqual(pauses.slice(0, 8), [9, 20, 40, 80, 160, 300, 300, 300]);
      assert.ok(lines().length < 20, `${lines().length} lines in an hour`);
      const counted = lines().reduce((sum, line) => sum + 1 + Number(line['left_out'] ?? 0), 0);
      assert.ok(counted > 3_300, `${counted} of 3,600 are told of`);
    } finally {
      mock.timers.reset();
    }
  });

  it('and then say something else are written within 10 s, whatever the pause has become', () => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'] });
    try {
      const { log, lines } = capture();
      const pass = (seconds: number, reason: string): void => {
        for (let second = 0; second < seconds; second++) {
          log.error('token away', { code: 'KMS-2001', reason });
          mock.timers.tick(1_000);
        }
      };
      pass(600, 'CKR_DEVICE_ERROR');
      const before = lines().length;
      pass(11, 'CKR_TOKEN_NOT_PRESENT');
      assert.equal(lines().at(-1)?.['reason'], 'CKR_TOKEN_NOT_PRESENT');
      assert.equal(lines().length, before + 1);
      // Two that alternate are no reason to be silent for longer.
      for (let turn = 0; turn < 30; turn++) {
        pass(1, 'one');
        pass(1, 'other');
      }
      assert.ok(lines().length >= before + 5);
    } finally {
      mock.timers.reset();
    }
  });

  it('and then stop say when it happened last', () => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'] });
    try {
      const { log, lines } = capture();
      for (let second = 0; second < 100; second++) {
        log.error('failed', { code: 'KMS-2001' });
        mock.timers.tick(1_000);
      }
      mock.timers.tick(300_000);
      assert.equal(lines().at(-1)?.['last'], '1970-01-01T00:01:39.000Z');
    } finally {
      mock.timers.reset();
    }
  });

  it('write what is held back when the program ends', async () => {
    const { log, lines } = capture();
    log.warn('odd');
    log.warn('odd');
    log.warn('odd');
    await log.flush(0);
    assert.deepEqual(
      lines().map((line) => line['left_out']),
      [undefined, 1],
    );
  });

  it('of very many kinds do not fill the memory', () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    try {
      const { log, lines } = capture();
      for (let kind = 0; kind < 5000; kind++) log.error(`text ${kind}`);
      assert.ok(lines().length <= 501, `${lines().length} lines`);
      mock.timers.tick(10_000);
      assert.equal(lines().at(-1)?.['left_out'], 5000 - 502);
    } finally {
      mock.timers.reset();
    }
  });
});

describe('a reader that does not read', () => {
  it('costs lines, which are counted, and no memory', () => {
    const written: string[] = [];
    const listeners = new Map<string, () => void>();
    const stream = {
      writableLength: 0,
      destroyed: false,
      write(chunk: string) {
        written.push(chunk);
        this.writableLength += chunk.length;
        return false;
      },
      on: (event: string, listener: () => void) => listeners.set(event, listener),
    };
    const output = new StreamOutput(stream satisfies OutputStream, (lines) => `lost ${lines}\n`, 100);
    for (let line = 0; line < 50; line++) output.write('ten bytes\n');
    assert.equal(stream.writableLength, 100);
    stream.writableLength = 0;
    listeners.get('drain')?.();
    output.write('and on\n');
    assert.deepEqual(written.slice(10), ['lost 40\n', 'and on\n']);
  });
});
