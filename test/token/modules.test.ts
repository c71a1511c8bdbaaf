/** One suite against every real PKCS#11 module that Debian ships; docs/hsms.md says what each can and cannot do. */
import path from 'node:path';
import { describe, test, type TestContext } from 'node:test';
import { makeSoftHsm, realModules, run, type Hsm } from '../hsm/index.ts';
import { p11KitClient, p11KitPassesGcm, p11KitProxy, type P11Kit } from '../hsm/p11-kit.ts';
import { ensureBundle } from './support/bundle.ts';
import type { EcbJob } from './support/ecb-at-once.ts';
import type { ModuleJob } from './support/module-suite.ts';

const ROWS: Readonly<Record<Hsm['name'], Pick<ModuleJob, 'profile' | 'scheme' | 'makesKeys'>>> = {
  softhsm2: { profile: 'gcm', scheme: 1, makesKeys: true },
  nss: { profile: 'gcm', scheme: 1, makesKeys: true },
  opencryptoki: { profile: 'cbc-hmac', scheme: 3, makesKeys: true },
  tpm2: { profile: 'cbc-hmac', scheme: 3, makesKeys: false },
};

const SUITE = path.join(import.meta.dirname, 'support/module-suite.ts');
const ECB = path.join(import.meta.dirname, 'support/ecb-at-once.ts');
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

/** They give each C_GetFunctionList an instance of its own, which is not initialised: ours must be the one of pkcs11js. */
describe('SoftHSM2 behind p11-kit', () => {
  const WAYS: Readonly<Record<string, (hsm: Hsm) => P11Kit | Promise<P11Kit>>> = {
    'p11-kit-proxy.so': p11KitProxy,
    'p11-kit-client.so': p11KitClient,
  };
  for (const [name, make] of Object.entries(WAYS)) {
    test(`${name}: AES-ECB on 32 sessions at once`, async (t) => {
      const { hsm, kit } = await begin(make, t);
      const job: EcbJob = { module: kit.module, label: hsm.label, pin: hsm.pin, key: 'first' };
      await run([process.execPath, '--import', TSX, ECB], { input: JSON.stringify(job), environment: kit.environment });
    });

    const why = 'before 0.25 p11-kit passes neither AES-GCM nor AES-CBC to its server';
    const skip = make === p11KitClient && !p11KitPassesGcm() && why;
    test(`${name}: the whole suite`, { skip }, async (t) => {
      ensureBundle();
      const { hsm, kit } = await begin(make, t);
      const job: ModuleJob = {
        reach: {
          module: kit.module,
          partition: { by: 'label', label: hsm.label },
          environment: kit.environment,
          pinFile: hsm.userPinFile(),
        },
        ...ROWS.softhsm2,
      };
      await run([process.execPath, '--import', TSX, SUITE], { input: JSON.stringify(job) });
    });
  }
});

async function begin(
  make: (hsm: Hsm) => P11Kit | Promise<P11Kit>,
  t: TestContext,
): Promise<{ readonly hsm: Hsm; readonly kit: P11Kit }> {
  const hsm = await makeSoftHsm();
  await hsm.makeKeys({ first: {}, 'first-mac': { generic: true }, second: {}, 'second-mac': { generic: true } });
  const kit = await make(hsm);
  t.after(async () => {
    kit.stop();
    await hsm.cleanup();
  });
  return { hsm, kit };
}
