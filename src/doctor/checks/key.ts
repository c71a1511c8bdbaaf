import type { FoundKeyReport, KeyReport } from '../../keyring/index.ts';
import { failure, ok, unseen, warning, type Check, type Finding } from '../types.ts';

/** Each listed key: on the token, one of its kind, fit, and with which id. */
export const key: Check = {
  name: 'key',
  async run(facts) {
    const view = await facts.token();
    if (view.by === 'nobody') return [unseen(view.why)];
    if (view.report.state !== 'ready') return [unseen('the token is not reached')];
    return view.keys.flatMap((report) => [...retired(report), ...examine(report)]);
  },
};

function examine(report: KeyReport): Finding[] {
  const { label, state, found, problem } = report;
  const name = `${label} (${state})`;
  if (found.length === 0) return [failure(`${name}: ${problem ?? 'not found on the token'}`, missing(state))];
  const usable = found.filter((each) => each.usable);
  if (usable.length === 0) {
    return found.map(({ problems }) => failure(`${name} cannot be used: ${problems.join('; ')}`, unfit(problems)));
  }
  return [
    ...(problem === undefined ? [] : [failure(`${name}: ${problem}`, refused(report, problem))]),
    ...found.flatMap((each) => [
      ok(described(name, each)),
      ...each.problems.map((text) => warning(`${name}: ${text}`, unfit([text]))),
    ]),
  ];
}

function retired({ label, retired: ids = [] }: KeyReport): Finding[] {
  return ids.map((id) =>
    failure(
      `${label}: key id ${id} is in retired_keys as well, and counts as listed`,
      'take it out of retired_keys; or take its key out of keys, once nothing needs it',
    ),
  );
}

function missing(state: KeyReport['state']): string {
  const restore =
    "see with the HSM's own tool whether it is in this partition; restore it from the HSM's backup if it was there";
  return state === 'active'
    ? `${restore}; only if there never was one: kms-plugin keys create`
    : `${restore}. It may leave the list only when nothing is under it any more: kms-plugin keys list says what proves that`;
}

/** A key that is fit as such and must not encrypt: two of them, another one than before, or a token that has changed. */
function refused({ found }: KeyReport, problem: string): string {
  if (problem.includes('keys are labelled')) {
    const ids = found.map(({ keyIds }) => keyIds[0] ?? 'none').join(', ');
    return `choose the one that encrypts with key_id (${ids}); all of them decrypt`;
  }
  if (problem.includes('another one than this host knows'))
    return "find out who made it, and restore the key of before from the HSM's backup; until then nothing is encrypted (docs/errors.md, KMS-3009)";
  return unfit([problem]);
}

function unfit(problems: readonly string[]): string {
  const text = problems.join(' ');
  if (/EXTRACTABLE|SENSITIVE/.test(text))
    return 'make a key that stays in the HSM (kms-plugin keys create) and rotate to it, or accept this one with allow_unsafe: true';
  if (text.includes('bits where')) return 'set size to what the key has, or list the key that was meant';
  if (/CKA_(EN|DE)CRYPT/.test(text))
    return "allow it with the HSM's own tool, or list a key that may encrypt and decrypt";
  if (text.includes('no profile fits'))
    return "see in the vendor's log why the HSM fails what it is tried with; docs/hsms.md says which token.profile its models need";
  return 'docs/hsms.md says what a key needs; kms-plugin keys inspect shows its attributes';
}

function described(name: string, { keyIds, idKind, sizeBits, scheme, attributes }: FoundKeyReport): string {
  const kept = [
    ...(attributes['sensitive'] === true ? ['sensitive'] : []),
    ...(attributes['extractable'] === false ? ['not extractable'] : []),
  ];
  const facts = [
    `id ${keyIds[0] ?? 'none'}${idKind === 'cka-id' ? ' (from CKA_ID)' : ''}`,
    `AES-${sizeBits ?? '?'}`,
    `scheme ${scheme}`,
    ...kept,
  ];
  return `${name}: ${facts.join(', ')}`;
}
