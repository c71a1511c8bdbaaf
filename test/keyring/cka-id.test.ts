/** Keys that are named by their CKA_ID: those without a label, or with one that no text file can hold. */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { ownCall } from '../../src/call/index.ts';
import { assertFails, Bench } from '../token/support/installation.ts';

const UNLABELLED = 'a1b2c3';
const ODD = '0102030405060708090a0b0c0d0e0f10';
const TWIN = 'ff00';

const alone = (ckaId: string) => ({ label: `cka_id:${ckaId}`, ckaId, anyLabel: true as const });

let bench: Bench;
before(async () => {
  bench = await Bench.make({ active: {} });
  await bench.hsm.makeKey('', { id: Buffer.from(UNLABELLED, 'hex') });
  await bench.hsm.makeKey('odd \0', { id: Buffer.from(ODD, 'hex') });
  await bench.hsm.makeKey('twins', { id: Buffer.from(TWIN, 'hex') });
  await bench.hsm.makeKey('twins', { id: Buffer.from('ff01', 'hex') });
});
afterEach(() => bench.reset());
after(() => bench.cleanup());

for (const [what, ckaId] of [
  ['without a label', UNLABELLED],
  ['whose label ends in a blank and a NUL', ODD],
] as const) {
  test(`a key ${what} encrypts and decrypts`, async () => {
    const host = await bench.readyHost({ keys: [alone(ckaId)] });
    assert.deepEqual(await host.decrypt(await host.encrypt(Buffer.from('x'))), Buffer.from('x'));
    const [report] = host.keyring.keys();
    assert.equal(report?.label, `cka_id:${ckaId}`);
    assert.equal(report.found.length, 1);
    assert.equal(report.found[0]?.attributes['cka_id'], ckaId);
  });
}

test('beside a label, cka_id chooses among the keys that have it', async () => {
  const both = await bench.readyHost({ keys: [{ label: 'twins' }] });
  await assertFails(both.encrypt(Buffer.alloc(1)), 'key-ambiguous');
  await both.close();
  const host = await bench.readyHost({ keys: [{ label: 'twins', ckaId: TWIN }] });
  assert.deepEqual(await host.decrypt(await host.encrypt(Buffer.from('x'))), Buffer.from('x'));
  assert.deepEqual(
    host.keyring.keys()[0]?.found.map(({ attributes }) => attributes['cka_id']),
    [TWIN],
  );
});

test('a missing one is key-missing, is made under that CKA_ID, and is never made twice', async () => {
  const stateDir = bench.newStateDir();
  const name = 'cka_id:0abc';
  const first = await bench.readyHost({ keys: [{ label: 'active' }], stateDir });
  await first.keyring.createKey(name, ownCall(10_000));
  await first.close();
  const host = await bench.readyHost({ keys: [alone('0abc')], stateDir });
  assert.equal((await host.encrypt(Buffer.alloc(1))).length > 0, true);
  assert.equal(host.keyring.keys()[0]?.found[0]?.attributes['cka_id'], '0abc');
  await assertFails(host.keyring.createKey(name, ownCall(10_000)), 'key-create-refused');
  const gone = await bench.readyHost({ keys: [{ label: 'active' }, { ...alone('0abd'), state: 'decrypt' as const }] });
  assert.match(gone.keyring.keys()[1]?.problem ?? '', /cka_id:0abd/);
});
