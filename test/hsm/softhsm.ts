import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { hsmMethods, provision } from './fixture.ts';
import type { Hsm } from './fixture.ts';

const candidates = ['/usr/lib/softhsm/libsofthsm2.so', '/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so'];

/** Where Debian's softhsm2 package puts its module. */
export function softHsmModule(): string {
  const found = candidates.find((candidate) => existsSync(candidate));
  if (found === undefined) throw new Error('SoftHSM2 is missing: apt-get install softhsm2');
  return found;
}

/** A SoftHSM2 token of its own; takes about a fifth of a second. */
export async function makeSoftHsm(options: { readonly label?: string; readonly pin?: string } = {}): Promise<Hsm> {
  const directory = mkdtempSync(path.join(tmpdir(), 'softhsm-'));
  const tokens = path.join(directory, 'tokens');
  mkdirSync(tokens, { mode: 0o700 });
  const conf = path.join(directory, 'softhsm2.conf');
  writeFileSync(
    conf,
    `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n`,
  );
  const base = {
    name: 'softhsm2',
    module: softHsmModule(),
    environment: { SOFTHSM2_CONF: conf },
    wrap: [],
    directory,
    label: options.label ?? 'credhub',
    pin: options.pin ?? '824713',
    soPin: '58293041',
  } as const;
  const answer = await provision(base, { initToken: { label: base.label, soPin: base.soPin, pin: base.pin } });
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
