import type { KeyReport } from '../keyring/index.ts';
import { moment, type Paints } from './format.ts';

/**
 * What an operator must know before a key leaves the list. CredHub never rewrites its canary: it stays under the key of
 * its day, so a key that nothing has used for months may still be the one that CredHub's next start depends on.
 */
export const DROPPING =
  'keep it: unused proves nothing; drop it only after a full round trip plugin -> internal provider -> plugin';

/** One key in the status screen and in `keys list`: a line for each key found on the token, troubles below. */
export function keyLines(key: KeyReport, paint: Paints): string[] {
  const name = `${key.state.padEnd(8)} ${key.label}`;
  const found = key.found.map(({ keyIds, sizeBits, encrypts, decrypts, lastUsed, usable, problems, idKind }) => {
    const size = sizeBits === undefined ? 'AES' : `AES-${sizeBits}`;
    const used = `${encrypts} encrypted, ${decrypts} decrypted${lastUsed === undefined ? '' : `, last ${moment(lastUsed)}`}`;
    const kind = idKind === 'cka-id' ? ' (from CKA_ID)' : '';
    const troubles = problems.map(
      (problem) => `${' '.repeat(9)}${usable ? paint.notice(problem) : paint.bad(problem)}`,
    );
    return [`${name}  ${keyIds[0] ?? 'no key id'}${kind}  ${size}  ${used}`, ...troubles];
  });
  if (found.length === 0) return [`${name}  ${paint.bad(key.problem ?? 'not looked for yet')}`];
  const lines = found.flat();
  return key.problem === undefined ? lines : [...lines, `${' '.repeat(9)}${paint.bad(key.problem)}`];
}
