import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { hsmMethods, provision } from './fixture.ts';
import type { Hsm } from './fixture.ts';

const module = '/usr/lib/x86_64-linux-gnu/libsoftokn3.so';

/**
 * A key database of NSS's software token. Its C_Initialize answers CKR_ARGUMENTS_BAD without `libraryParameters`: there
 * is no other way to name the database. Slot 1 does cryptography without keys of its own, slot 2 is the database.
 */
export async function makeNssHsm(): Promise<Hsm> {
  if (!existsSync(module)) throw new Error('NSS is missing: apt-get install libnss3');
  const directory = mkdtempSync(path.join(tmpdir(), 'nss-'));
  const database = path.join(directory, 'db');
  mkdirSync(database, { mode: 0o700 });
  const base = {
    name: 'nss',
    module,
    environment: {},
    wrap: [],
    libraryParameters: `configdir='sql:${database}' dbTokenDescription='credhub' certPrefix='' keyPrefix='' secmod='' flags=`,
    directory,
    label: 'credhub',
    pin: '824713',
    soPin: '',
  } as const;
  // A new database has the empty security officer's PIN; setting the user's PIN is all there is to do.
  const answer = await provision(base, { initToken: { label: base.label, soPin: '', pin: base.pin, existing: true } });
  return {
    ...base,
    ...answer,
    ...hsmMethods(base),
    cleanup() {
      rmSync(directory, { recursive: true, force: true });
      return Promise.resolve();
    },
  };
}
