/** The known name that `name` was probably meant to be, or undefined when none is near. */
export function nearest(name: string, known: readonly string[]): string | undefined {
  const wanted = plain(name);
  if (wanted.length < 2 || wanted.length > 60) return undefined;
  const candidates = known.map((candidate) => ({ candidate, distance: distance(wanted, plain(candidate)) }));
  const near = candidates
    .filter(({ candidate, distance: edits }) => edits <= Math.floor(candidate.length / 3))
    .sort((a, b) => a.distance - b.distance)[0];
  // `pin` for pin_file, `warning` for warn.
  const longer = known.find((candidate) => plain(candidate).startsWith(wanted) || wanted.startsWith(plain(candidate)));
  return near?.candidate ?? longer;
}

/** pinFile, pin-file and PIN_FILE are all pin_file. */
const plain = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');

/** Edits (insert, delete, replace one character) that turn `a` into `b`. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replace, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
