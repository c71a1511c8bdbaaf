/** Frames between the two processes: whatever the stream brings, a frame or a FrameError, and never more memory than allowed. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import {
  encodeHeader,
  FRAME_HEADER_BYTES,
  FrameError,
  FrameReader,
  FrameType,
  type Frame,
} from '../../src/token/wire/frame.ts';
import { decodeCryptoRequest, decodeJson, encodeCryptoRequest } from '../../src/token/wire/messages.ts';

const MAX = 4_096;

const frames = fc.array(
  fc.record(
    {
      type: fc.constantFrom(...Object.values(FrameType)),
      id: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
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
      const header = encodeHeader(FrameType.encrypt, 1n, 0xffffffff);
      assert.throws(() => new FrameReader(MAX).push(header, () => assert.fail('a frame')), FrameError);
    }
    assert.ok(process.memoryUsage().arrayBuffers - before < 10_000_000);
    const one = encodeHeader(FrameType.encrypt, 1n, MAX + 1);
    assert.throws(() => new FrameReader(MAX).push(one, () => assert.fail('a frame')), /over the limit/);
  });

  test('of another version or an unknown type are refused', () => {
    for (const [at, value] of [
      [4, 0],
      [4, 2],
      [5, 0],
      [5, 6],
      [5, 0x83],
    ] as const) {
      const header = encodeHeader(FrameType.probe, 1n, 0);
      header.writeUInt8(value, at);
      assert.throws(() => new FrameReader(MAX).push(header, () => assert.fail('a frame')), FrameError);
    }
  });

  test('leave nothing of themselves in the stream’s buffer', () => {
    const chunk = Buffer.concat([encodeHeader(FrameType.ok, 9n, 6), Buffer.from('secret')]);
    let seen: Frame | undefined;
    new FrameReader(MAX).push(chunk, (frame) => (seen = frame));
    assert.equal(seen?.payload.toString(), 'secret');
    assert.ok(chunk.every((byte) => byte === 0));
    assert.equal(FRAME_HEADER_BYTES + 6, chunk.length);
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

  test('with a deadline far away are sent all the same', () => {
    const [head] = encodeCryptoRequest({
      keyId: '00'.repeat(16),
      scheme: 1,
      expiresAt: Infinity,
      associatedData: Buffer.alloc(0),
      data: Buffer.alloc(0),
    });
    assert.ok(head);
    assert.equal(decodeCryptoRequest(head).expiresAt, Number.MAX_SAFE_INTEGER);
  });
});
