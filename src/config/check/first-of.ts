/** The property that had this value before, if any; else notes that `property` has it. */
export function firstOf(seen: Map<string, string>, value: string, property: string): string | undefined {
  const first = seen.get(value);
  if (first === undefined) seen.set(value, property);
  return first;
}
