import { test } from 'node:test';
import { checkSoak, Soak } from './soak/soak.ts';

test('a minute of mixed load on an HSM that misbehaves every few seconds', async (t) => {
  const soak = await Soak.start();
  t.after(() => soak.stop());
  const report = await soak.run(60, () => undefined);
  t.diagnostic(JSON.stringify(report));
  checkSoak(report);
});
