/** Each fault is seeded on a running installation; the first line that fails must name it and its mend. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Diagnosis } from '../../src/doctor/index.ts';
import type { Fault } from './fault.ts';
import { FAULTS_AROUND } from './faults-around.ts';
import { FAULTS_INSIDE } from './faults-inside.ts';
import { FAULTS_OUTSIDE } from './faults-outside.ts';
import { firstFailure, Place, timeOf } from './place.ts';
import { isCurrent, TABLE, tableOf, type Row } from './table.ts';

const FAULTS: readonly Fault[] = [...FAULTS_OUTSIDE, ...FAULTS_INSIDE, ...FAULTS_AROUND];

let place: Place;
const rows: Row[] = [];

before(async () => {
  place = await Place.make();
  place.start();
  await place.well();
});
after(() => place.cleanup());

function everything(diagnosis: Diagnosis): string {
  return diagnosis.lines.map(({ check, verdict, seen, mend }) => `${check}: ${verdict}: ${seen} -> ${mend}`).join('\n');
}

describe('doctor', () => {
  it('finds nothing where nothing is wrong', () => {
    const diagnosis = place.doctor();
    assert.equal(firstFailure(diagnosis), undefined, everything(diagnosis));
  });

  for (const fault of FAULTS) {
    it(`names ${fault.seeded}`, async () => {
      try {
        await fault.seed(place);
        const diagnosis = fault.diagnose === undefined ? place.doctor() : await fault.diagnose(place);
        const line = firstFailure(diagnosis);
        assert.equal(line?.check, fault.check, everything(diagnosis));
        assert.match(line.seen, fault.names, everything(diagnosis));
        assert.match(line.mend ?? '', fault.mend);
        for (const { verdict, mend } of diagnosis.lines) assert.equal(mend !== undefined, verdict !== 'ok');
        assert.ok(diagnosis.durationMs < timeOf(diagnosis), `${diagnosis.durationMs} ms`);
        rows.push({ seeded: fault.seeded, line });
      } finally {
        await fault.undo(place);
        await place.well();
      }
    });
  }

  it('is as docs/doctor-faults.md has it', () => {
    assert.ok(FAULTS.length >= 25);
    assert.equal(rows.length, FAULTS.length, 'after every fault was named');
    assert.ok(
      isCurrent(tableOf(rows, place)),
      `${TABLE} was not up to date and has been written: look at it and commit it`,
    );
  });
});
