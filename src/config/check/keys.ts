import type { Sheet } from '../problems.ts';
import type { ListItem } from '../read/fields.ts';
import { nameOfCkaId } from '../read/units.ts';
import type { FileDraft, KeyDraft } from '../schema.ts';
import { firstOf } from './first-of.ts';

export function checkKeys({ keys, retired_keys: retired }: FileDraft, sheet: Sheet): void {
  if (keys !== undefined) {
    checkActive(keys, sheet);
    checkUnique(keys, sheet);
    for (const key of keys) {
      checkNamed(key, sheet);
      checkCreate(key, sheet);
    }
  }
  if (retired !== undefined) checkRetired(retired, keys ?? [], sheet);
}

function checkActive(keys: readonly ListItem<KeyDraft>[], sheet: Sheet): void {
  const active = keys.filter(({ value }) => value.state === 'active');
  // A key whose state could not be read may be the active one.
  if (active.length === 0 && keys.length > 0 && keys.every(({ value }) => value.state !== undefined)) {
    sheet.problem('keys', 'has no active key to encrypt with', 'give exactly one key state: active');
  }
  if (active.length > 1) {
    const labels = active.map(({ property, value }) => value.label ?? value.cka_id ?? property).join(', ');
    const mend = 'keep state: active on one and give the others state: decrypt';
    sheet.problem('keys', `has ${active.length} active keys (${labels})`, mend);
  }
}

function checkUnique(keys: readonly ListItem<KeyDraft>[], sheet: Sheet): void {
  const labels = new Map<string, string>();
  const ids = new Map<string, string>();
  for (const { property, value } of keys) {
    const sameLabel = typeof value.label === 'string' ? firstOf(labels, value.label, property) : undefined;
    if (sameLabel !== undefined) {
      const mend = 'list each label once; key_id chooses among keys under one label';
      sheet.problem(`${property}.label`, `repeats the label of ${sameLabel}`, mend);
    }
    const alone = typeof value.label === 'string' ? undefined : (value.cka_id ?? undefined);
    const sameCkaId = alone === undefined ? undefined : firstOf(labels, nameOfCkaId(alone), property);
    if (sameCkaId !== undefined) {
      sheet.problem(`${property}.cka_id`, `repeats the cka_id of ${sameCkaId}`, 'list each key once');
    }
    for (const given of value.key_id ?? []) {
      const sameId = firstOf(ids, given.value, given.property);
      if (sameId !== undefined) {
        sheet.problem(given.property, `repeats ${sameId}`, 'an id belongs to one key; correct one of the two');
      }
    }
  }
}

function checkNamed({ property, value }: ListItem<KeyDraft>, sheet: Sheet): void {
  // undefined is a fault that is told already, null is what nobody gave.
  if (value.label !== null || value.cka_id !== null) return;
  const mend = "give the key's label on the token, or the cka_id of a key that has no label";
  sheet.problem(`${property}.label`, 'is missing', mend);
}

function checkCreate({ property, value }: ListItem<KeyDraft>, sheet: Sheet): void {
  if (value.create !== true) return;
  if ((value.key_id ?? []).length > 0) {
    const trouble = 'is true beside key_id, which names a key that exists already';
    sheet.problem(`${property}.create`, trouble, 'remove create, or remove key_id to have a new key made');
    return;
  }
  const trouble =
    "is true: should the key be away and the plugin's memory of it in state_dir too, another is made under its label";
  sheet.warn(`${property}.create`, trouble, 'remove it once the key exists');
}

function checkRetired(retired: readonly ListItem<string>[], keys: readonly ListItem<KeyDraft>[], sheet: Sheet): void {
  const seen = new Map<string, string>();
  for (const { property, value: id } of retired) {
    const first = firstOf(seen, id, property);
    if (first !== undefined) sheet.warn(property, `repeats ${first}`, 'remove one of the two');
    const listed = keys.find(({ value }) => value.key_id?.some((given) => given.value === id));
    if (listed !== undefined) {
      sheet.contradiction(
        property,
        `is also the key_id of ${listed.property} and so counts as listed`,
        'remove it here, or the key from the list once nothing needs it',
      );
    }
  }
}
