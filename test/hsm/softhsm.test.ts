import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { run } from './fixture.ts';
import { makeSoftHsm } from './index.ts';

test('a SoftHSM2 fixture is a token with the keys asked for', async (t) => {
  const hsm = await makeSoftHsm();
  t.after(() => hsm.cleanup());
  await hsm.makeKeys({ one: { id: Buffer.alloc(16, 7) }, two: { generic: true, size: 512 }, three: { size: 128 } });
  await hsm.makeKey('four', { value: Buffer.alloc(32, 1) });
  const list = (): Promise<string> =>
    run(
      [
        'pkcs11-tool',
        '--module',
        hsm.module,
        '--token-label',
        hsm.label,
        '--login',
        '--pin',
        hsm.pin,
        '--list-objects',
      ],
      {
        environment: hsm.environment,
      },
    );
  const before = await list();
  for (const label of ['one', 'two', 'three', 'four']) assert.match(before, new RegExp(`label: +${label}$`, 'm'));
  assert.match(before, /ID: +(07){16}/);
  await hsm.destroyKey('two');
  assert.doesNotMatch(await list(), /label: +two$/m);

  const file = hsm.userPinFile();
  assert.equal(readFileSync(file, 'utf8'), hsm.pin);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  await hsm.cleanup();
  assert.equal(existsSync(hsm.directory), false);
});
