/** Frames between the two processes: whatever the stream brings, a frame or a FrameError, and never more memory than allowed. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, connect, type AddressInfo, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Channel } from '../../src/token/wire/channel.ts';
import {
  FRAME_HEADER_BYTES,
  FrameError,
  FrameReader,
  FrameType,
  writeHeader,
  type Frame,
} from '../../src/token/wire/frame.ts';
import { decodeCryptoRequest, decodeJson, encodeCryptoRequest } from '../../src/token/wire/messages.ts';

const MAX = 4_096;

function encodeHeader(type: FrameType, id: number, payloadBytes: number): Buffer {
  const header = Buffer.alloc(FRAME_HEADER_BYTES);
  writeHeader(header, 0, type, id, payloadBytes);
  return header;
}

const frames = fc.array(
  fc.record(
    {
      type: fc.constantFrom(...Object.values(FrameType)),
      id: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
      payload: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    },
    { noNullPrototype: true },
  ),
  { maxLength: 20 },
);

const stream = (list: readonly Frame[]): Buffer =>
  Buffer.concat(list.flatMap(({ type, id, payload }) => [encodeHeader(type, id, payload.length), payload]));

/** Reads the bytes in pieces cut at these places. */
function read(bytes: Buffer, cuts: readonly number[]): Frame[] {
  const reader = new FrameReader(MAX);
  const seen: Frame[] = [];
  const places = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  let from = 0;
  for (const to of places) {
    reader.push(Buffer.from(bytes.subarray(from, to)), (frame) => seen.push(frame));
    from = to;
  }
  return seen;
}

describe('frames', () => {
  test('come out as they went in, however the stream is cut', () => {
    fc.assert(
      fc.property(frames, fc.array(fc.nat(), { maxLength: 40 }), (list, cuts) => {
        assert.deepEqual(read(stream(list), cuts), list);
      }),
      { numRuns: 500 },
    );
  });

  test('that are not whole wait', () => {
    fc.assert(
      fc.property(frames, fc.nat(), (list, cut) => {
        const bytes = stream(list);
        const seen = read(bytes.subarray(0, cut % (bytes.length + 1)), []);
        assert.deepEqual(seen, list.slice(0, seen.length));
      }),
      { numRuns: 300 },
    );
  });

  test('of garbage are frames within the limit or a FrameError, 100,000 times', () => {
    let refused = 0;
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 10, maxLength: 64 }),
        fc.array(fc.nat(), { maxLength: 4 }),
        (bytes, cuts) => {
          try {
            for (const { payload } of read(Buffer.from(bytes), cuts)) assert.ok(payload.length <= MAX);
          } catch (error) {
            assert.ok(error instanceof FrameError);
            refused++;
          }
        },
      ),
      { numRuns: 100_000 },
    );
    assert.ok(refused > 10_000);
  });

  test('are refused by length before memory is taken for them', () => {
    const before = process.memoryUsage().arrayBuffers;
    for (let times = 0; times < 1_000; times++) {
      const header = encodeHeader(FrameType.encrypt, 1, 0xffffffff);
      assert.throws(() => new FrameReader(MAX).push(header, () => assert.fail('a frame')), FrameError);
    }
    assert.ok(process.memoryUsage().arrayBuffers - before < 10_000_000);
    const one = encodeHeader(FrameType.encrypt, 1, MAX + 1);
    assert.throws(() => new FrameReader(MAX).push(one, () => assert.fail('a frame')), /over the limit/);
  });

  test('of another version or an unknown type are refused', () => {
    for (const [at, value] of [
      [4, 0],
      [4, 2],
      [5, 0],
      [5, 7],
      [5, 0x83],
    ] as const) {
      const header = encodeHeader(FrameType.probe, 1, 0);
      header.writeUInt8(value, at);
      assert.throws(() => new FrameReader(MAX).push(header, () => assert.fail('a frame')), FrameError);
    }
  });

  test('leave nothing of themselves in the stream’s buffer', () => {
    const chunk = Buffer.concat([encodeHeader(FrameType.ok, 9, 6), Buffer.from('secret')]);
    let seen: Frame | undefined;
    new FrameReader(MAX).push(chunk, (frame) => (seen = frame));
    assert.equal(seen?.payload.toString(), 'secret');
    assert.ok(chunk.every((byte) => byte === 0));
    assert.equal(FRAME_HEADER_BYTES + 6, chunk.length);
  });

  test('that will never be whole leave nothing behind for the next', () => {
    const seen: Frame[] = [];
    const reader = new FrameReader(MAX);
    const whole = Buffer.concat([encodeHeader(FrameType.ok, 9, 6), Buffer.from('secret')]);
    reader.push(Buffer.from(whole.subarray(0, whole.length - 1)), (frame) => seen.push(frame));
    reader.clear();
    reader.push(Buffer.from(whole), (frame) => seen.push(frame));
    assert.deepEqual(
      seen.map(({ payload }) => payload.toString()),
      ['secret'],
    );
  });
});

describe('requests', () => {
  const request = fc.record(
    {
      keyId: fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => Buffer.from(bytes).toString('hex')),
      scheme: fc.constantFrom(1 as const, 2 as const, 3 as const),
      expiresAt: fc.nat(),
      associatedData: fc.uint8Array({ maxLength: 100 }).map((bytes) => Buffer.from(bytes)),
      data: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
    },
    { noNullPrototype: true },
  );

  test('come out as they went in', () => {
    fc.assert(
      fc.property(request, (sent) => {
        assert.deepEqual(decodeCryptoRequest(Buffer.concat(encodeCryptoRequest(sent))), sent);
      }),
    );
  });

  test('of garbage are requests or a FrameError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => {
        try {
          decodeCryptoRequest(Buffer.from(bytes));
        } catch (error) {
          assert.ok(error instanceof FrameError);
        }
        try {
          decodeJson(Buffer.from(bytes));
        } catch (error) {
          assert.ok(error instanceof FrameError);
        }
      }),
      { numRuns: 20_000 },
    );
  });

  test('with a deadline far away, or of before the machine ran, are sent all the same', () => {
    const sent = (expiresAt: number): number => {
      const [head] = encodeCryptoRequest({
        keyId: '00'.repeat(16),
        scheme: 1,
        expiresAt,
        associatedData: Buffer.alloc(0),
        data: Buffer.alloc(0),
      });
      assert.ok(head);
      return decodeCryptoRequest(head).expiresAt;
    };
    assert.equal(sent(Infinity), Number.MAX_SAFE_INTEGER);
    assert.equal(sent(-1_702_967_296), 0);
  });
});

describe('a channel', () => {
  /** Two ends of one connection. */
  async function pair(): Promise<{ near: Socket; far: Socket; close: () => void }> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const near = connect((server.address() as AddressInfo).port, '127.0.0.1');
    const [far] = (await once(server, 'connection')) as [Socket];
    return {
      near,
      far,
      close: () => {
        near.destroy();
        far.destroy();
        server.close();
      },
    };
  }
  const ignore = { frame: () => assert.fail('a frame'), broken: () => undefined };

  test('carries small and large frames in the order in which they were sent, and says when each has gone', async () => {
    const { near, far, close } = await pair();
    const sizes = [0, 1, 1_000, 16_384, 16_385, 100, 300_000, 5, 70_000, 0];
    const payloads = sizes.map((size) => randomBytes(size));
    const seen: Frame[] = [];
    const all = new Promise<void>((resolve) => {
      const events = { ...ignore, frame: (frame: Frame) => seen.push(frame) === sizes.length && resolve() };
      assert.ok(new Channel(far, events));
    });
    const channel = new Channel(near, ignore);
    const sent = await Promise.all(
      payloads.map(
        (payload, index) =>
          new Promise<number>((resolve) => {
            const half = payload.length >> 1;
            const parts = [payload.subarray(0, half), payload.subarray(half)];
            channel.send(FrameType.encrypt, 1_000 + index, parts, () => resolve(index));
          }),
      ),
    );
    await all;
    assert.deepEqual(sent, [...sizes.keys()]);
    assert.deepEqual(
      seen.map(({ id }) => id),
      sizes.map((_, index) => 1_000 + index),
    );
    for (const [index, { payload }] of seen.entries()) assert.ok(payload.equals(payloads[index] ?? Buffer.alloc(0)));
    close();
  });

  test('lets go of everything that was sent, when it is closed and when it breaks', async () => {
    for (const end of ['close', 'break'] as const) {
      const { near, far, close } = await pair();
      const channel = new Channel(near, ignore);
      await new Promise<void>((resolve) => {
        let gone = 0;
        const done = (): void => {
          if (++gone === 2) resolve();
        };
        channel.send(FrameType.encrypt, 1, [Buffer.from('a value')], done);
        if (end === 'close') channel.close();
        else far.destroy();
        channel.send(FrameType.encrypt, 2, [Buffer.alloc(100_000)], done);
      });
      close();
    }
  });
});
