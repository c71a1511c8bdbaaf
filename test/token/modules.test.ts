/** One suite against every real PKCS#11 module that Debian ships; docs/hsms.md says what each can and cannot do. */
import path from 'node:path';
import { describe, test } from 'node:test';
import { realModules, run, type Hsm } from '../hsm/index.ts';
import { ensureBundle } from './support/bundle.ts';
import type { ModuleJob } from './support/module-suite.ts';

const ROWS: Readonly<Record<Hsm['name'], Pick<ModuleJob, 'profile' | 'scheme' | 'makesKeys'>>> = {
  softhsm2: { profile: 'gcm', scheme: 1, makesKeys: true },
  nss: { profile: 'gcm', scheme: 1, makesKeys: true },
  opencryptoki: { profile: 'cbc-hmac', scheme: 3, makesKeys: true },
  tpm2: { profile: 'cbc-hmac', scheme: 3, makesKeys: false },
};

const SUITE = path.join(import.meta.dirname, 'support/module-suite.ts');
const TSX = path.resolve(import.meta.dirname, '../../node_modules/tsx/dist/esm/index.mjs');

describe('real modules', () => {
  for (const [name, make] of Object.entries(realModules)) {
    test(`${name}: round trips, damage, crash, restart, rotation, creation`, async (t) => {
      ensureBundle();
      const hsm = await make();
      t.after(() => hsm.cleanup());
      await hsm.makeKeys({
        first: {},
        'first-mac': { generic: true },
        second: {},
        'second-mac': { generic: true },
      });
      const job: ModuleJob = {
        reach: {
          module: hsm.module,
          partition: { by: 'label', label: hsm.label },
          environment: hsm.environment,
          pinFile: hsm.userPinFile(),
          ...(hsm.libraryParameters === undefined ? {} : { initArgs: hsm.libraryParameters }),
        },
        ...ROWS[hsm.name],
      };
      await run([...hsm.wrap, process.execPath, '--import', TSX, SUITE], { input: JSON.stringify(job) });
    });
  }
});
