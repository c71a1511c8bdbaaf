/** The audit trail: a file of its own, in a directory that is there. It is opened and made by the service alone. */
import path from 'node:path';
import { lookAt, trueDirectory, workingDirectoryTrouble } from '../files.ts';
import type { Sheet } from '../problems.ts';
import type { FileDraft } from '../schema.ts';

const MEND = 'name a file for the audit trail alone, such as /var/log/kms-plugin/audit.log';

export function checkAudit(draft: FileDraft, sheet: Sheet): void {
  const file = draft.audit?.file;
  if (typeof file !== 'string') return;
  const directory = path.dirname(file);
  if (draft.state_dir !== undefined && trueDirectory(draft.state_dir) === trueDirectory(directory)) {
    sheet.problem('audit.file', 'is in state_dir, which holds nothing but what the plugin remembers', MEND);
    return;
  }
  const trouble = workingDirectoryTrouble(directory);
  if (trouble !== undefined) {
    const mend = "make that directory, with the plugin's user as its owner";
    sheet.problem('audit.file', `is in ${directory}, which ${trouble}`, mend);
    return;
  }
  const place = trueName(file);
  const other = otherFiles(draft, sheet).find(([, theirs]) => trueName(theirs) === place);
  if (other !== undefined) {
    sheet.problem('audit.file', `is also ${other[0]}, which audit lines would spoil`, MEND);
  } else if (lookAt(file)?.isDirectory() === true) {
    sheet.problem('audit.file', `is ${file}, which is a directory`, MEND);
  }
}

/** Everything else that the file names, with the setting that does. */
function otherFiles(draft: FileDraft, sheet: Sheet): (readonly [string, string])[] {
  const listeners = (draft.listeners ?? []).flatMap(({ property, value: { tls, endpoint } }) => [
    [`${property}.endpoint`, endpoint?.kind === 'path' ? endpoint.path : undefined] as const,
    [`${property}.tls.certificate`, tls?.certificate] as const,
    [`${property}.tls.private_key`, tls?.private_key] as const,
    [`${property}.tls.ca`, tls?.ca] as const,
  ]);
  const named = [
    ['the configuration file', sheet.file] as const,
    ['token.module', draft.token?.module] as const,
    ['token.pin_file', draft.token?.pin_file] as const,
    ...listeners,
  ];
  return named.flatMap(([property, file]) => (typeof file === 'string' ? [[property, file] as const] : []));
}

const trueName = (file: string): string => path.join(trueDirectory(path.dirname(file)), path.basename(file));
