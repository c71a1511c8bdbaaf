import type { KeyReport } from '../keyring/index.ts';
import { moment, type Paints } from './format.ts';

/** Of a listener what tells who its clients are. */
export interface Served {
  readonly apis: readonly string[];
  readonly tls: boolean;
}

/** CredHub speaks v1beta1 over TLS, kube-apiserver v2 or v1beta1 without. */
const CLIENTS = [
  {
    name: 'CredHub',
    uses: ({ apis, tls }: Served) => tls && apis.includes('v1beta1'),
    proof: 'a full round trip plugin -> internal provider -> plugin',
  },
  {
    name: 'kube-apiserver',
    uses: ({ apis, tls }: Served) => apis.includes('v2') || (!tls && apis.includes('v1beta1')),
    proof: 'a storage migration of all that is encrypted in etcd, and keep it in the HSM for the backups of etcd',
  },
] as const;

/**
 * What an operator must know before a key leaves the list, a line for each kind of client. CredHub never rewrites its
 * canary: it stays under the key of its day, so a key that nothing has used for months may still be the one that CredHub's
 * next start depends on. kube-apiserver rewrites what is written, and nothing else.
 */
export function dropping(listeners: readonly Served[]): string[] {
  const clients = CLIENTS.filter(({ uses }) => listeners.some(uses));
  return clients.map(({ name, proof }) => {
    const whose = clients.length > 1 ? `${name}: ` : '';
    return `${whose}keep it: unused proves nothing; drop it only after ${proof}`;
  });
}

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
  const retired =
    key.retired?.map((id) => `key id ${id} is in retired_keys as well, and counts as listed: take one out`) ?? [];
  const troubles = [...(key.problem === undefined ? [] : [key.problem]), ...retired];
  return [...found.flat(), ...troubles.map((trouble) => `${' '.repeat(9)}${paint.bad(trouble)}`)];
}
