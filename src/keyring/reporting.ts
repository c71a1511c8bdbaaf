import type { KeyConfig } from '../config/index.ts';
import { KmsError } from '../errors/index.ts';
import { ROTATE_FROM, type IvCounts } from './iv-counts.ts';
import type { KeyMemory } from './key-memory.ts';
import type { KeyTable } from './key-table.ts';
import { idsOf, type ListedKey, type SealingChoice } from './listed-keys.ts';
import type { FoundKeyReport, KeyReport } from './report.ts';
import type { Uses } from './uses.ts';

/** What reports on keys are made from. */
export interface ReportSources {
  readonly memory: KeyMemory;
  readonly uses: Uses;
  /** The key that encrypts, or why there is none. */
  readonly sealing: SealingChoice | KmsError;
}

export function keyReport(config: KeyConfig, table: KeyTable, sources: ReportSources): KeyReport {
  const { sealing } = sources;
  const found = table.found(config);
  const retired = table.retiredOf(config);
  const trouble =
    config.state === 'active' && sealing instanceof KmsError
      ? sealing.message
      : found.length === 0
        ? table.whyMissing(config)
        : undefined;
  return {
    label: config.label,
    state: config.state,
    encryptedHere: sources.memory.written(config.label) !== undefined,
    found: found.map((key) => foundKeyReport(key, sources)),
    ...(trouble === undefined || !table.isKnown ? {} : { problem: trouble }),
    ...(retired.length === 0 ? {} : { retired }),
  };
}

export function foundKeyReport(key: ListedKey, { memory, uses, sealing }: ReportSources): FoundKeyReport {
  const { ids } = key.token;
  const writes = sealing instanceof KmsError || sealing.key.token !== key.token ? ids[0]?.id : sealing.keyId;
  const ordered = [...ids].sort((a, b) => Number(b.id === writes) - Number(a.id === writes));
  const firstSeen = memory.firstSeen(key.config.label);
  return {
    keyIds: ordered.map(({ id }) => id),
    idKind: ordered[0]?.kind ?? 'cka-id',
    sizeBits: key.token.sizeBits,
    scheme: key.token.scheme,
    attributes: key.token.attributes,
    problems: [...key.obstacles, ...key.token.sealProblems, ...key.token.macUnsafe],
    usable: key.obstacles.length === 0,
    ...(firstSeen === undefined ? {} : { firstSeen }),
    ...uses.of(ordered.map(({ id }) => id)),
  };
}

/** What an operator should look at, for status. */
export function keyWarnings(table: KeyTable, ivs: IvCounts): string[] {
  const { config } = table;
  const created = config.keys
    .filter((key) => key.create)
    .map(({ label }) => `key "${label}" has create: true; take it out now: state_dir does not outlive the VM`);
  const both = config.keys.flatMap((key) =>
    table
      .retiredOf(key)
      .map((id) => `key id ${id} is listed ("${key.label}") and in retired_keys: it counts as listed; take one out`),
  );
  const missing = table.missing().map((key) => table.whyMissing(key));
  return [...created, ...both, ...missing, ...table.listed.flatMap((key) => warningsOn(key, ivs))];
}

function warningsOn({ config: { label, allowUnsafe }, token }: ListedKey, ivs: IvCounts): string[] {
  const warnings = allowUnsafe ? token.unsafe.map((why) => `key "${label}" is allowed though ${why}`) : [];
  if (allowUnsafe) warnings.push(...token.macUnsafe.map((why) => `key "${label}" is allowed though ${why}`));
  warnings.push(...token.notes.map((note) => `key "${label}": ${note}`));
  for (const id of idsOf(token)) {
    const count = ivs.count(id);
    if (count >= ROTATE_FROM) warnings.push(`key "${label}" has encrypted ${count} values on this host: rotate it`);
  }
  return warnings;
}
