import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AwakeClock } from '../../src/call/index.ts';

describe('the awake clock', () => {
  it('counts what passes while it is looked at, and not the time in which nobody could look', () => {
    let now = 1_000;
    const clock = new AwakeClock(() => now);
    const from = clock.now();
    const pass = (milliseconds: number): number => {
      now += milliseconds;
      return Math.round(clock.now() - from);
    };
    for (let tick = 1; tick <= 40; tick++) assert.equal(pass(250), 250 * tick);
    // A busy host is late, and not stopped.
    assert.equal(pass(1_200), 11_200);
    assert.ok(pass(3_600_000) <= 11_200 + 250);
    const after = pass(0);
    assert.equal(pass(250), after + 250);
    assert.ok(pass(31_000) <= after + 500);
  });
});
