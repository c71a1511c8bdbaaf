import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { isMap, isScalar, isSeq, parseDocument, type Node } from 'yaml';

/** What is shown in place of a value that is not known to be harmless. */
const MASK = '(masked)';

/**
 * Settings whose values are shown. Everything else is masked: a PIN that was written to the wrong place, an unknown
 * setting, a variable for the vendor's library. Comments are left out, too.
 */
const SHOWN: ReadonlySet<string> = new Set([
  ...['state_dir', 'control_socket', 'name', 'endpoint', 'apis', 'host', 'mode', 'patience', 'allow_unprotected'],
  ...[
    'module',
    'label',
    'serial',
    'slot',
    'login',
    'pin_file_newline',
    'pin_despite_flag',
    'profile',
    'sessions',
    'vendor_timeout',
  ],
  ...['state', 'create', 'key_id', 'mac_label', 'size', 'allow_unsafe', 'retired_keys', 'large_values'],
  ...['data_key', 'max_age', 'max_values', 'max_bytes', 'cache_size', 'cache_ttl'],
  ...['call_deadline', 'hide', 'in_flight', 'queued', 'connections', 'value', 'message', 'shutdown'],
  ...['address', 'port', 'level'],
]);
/** Names of files: shown when there is such a file, since somebody may have put the contents there. */
const PATHS: ReadonlySet<string> = new Set(['certificate', 'private_key', 'ca', 'pin_file', 'file']);
/** Longest value that is shown, in characters. */
const LONGEST = 200;

/** The configuration's settings without comments, each value shown or masked; or why it cannot be read. */
export function maskedConfiguration(file: string): unknown {
  try {
    const document = parseDocument(readFileSync(file, 'utf8'), { logLevel: 'silent' });
    // A parser's messages quote the text.
    if (document.errors.length > 0) return { unreadable: `not YAML, in ${document.errors.length} places` };
    return masked(document.contents, '', path.dirname(file));
  } catch (error) {
    return { unreadable: (error as NodeJS.ErrnoException).code ?? 'cannot be read' };
  }
}

function masked(node: Node | null, name: string, directory: string): unknown {
  if (isMap(node)) {
    // Variables for the vendor's library are the vendor's affair: any of them may hold a password.
    const within = name === 'environment' ? (): string => name : (key: string): string => key;
    return Object.fromEntries(
      node.items.map(({ key, value }, at) => {
        const written =
          isScalar(key) && typeof key.value === 'string' && /^\w{1,64}$/.test(key.value) ? key.value : `(name ${at})`;
        return [written, masked(value as Node | null, within(written), directory)];
      }),
    );
  }
  if (isSeq(node)) return node.items.map((item) => masked(item as Node | null, name, directory));
  return isScalar(node) ? shown(node.value, name, directory) : MASK;
}

function shown(value: unknown, name: string, directory: string): unknown {
  if (value === null) return null;
  if (typeof value !== 'string') return SHOWN.has(name) ? value : MASK;
  if (value.length > LONGEST || /[\u0000-\u001f]/.test(value)) return MASK;
  if (SHOWN.has(name)) return value;
  return PATHS.has(name) && existsSync(path.resolve(directory, value)) ? value : MASK;
}
