/** The rules of .dependency-cruiser.cjs: each refuses the import that it exists for. `scripts/check` holds src/ to them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

const root = path.resolve(import.meta.dirname, '../..');

/** Runs the rules over src/ of `directory`; the names of those that are broken. */
function brokenRules(directory: string): string[] {
  const program = path.join(root, 'node_modules/.bin/depcruise');
  const args = ['--config', path.join(root, '.dependency-cruiser.cjs'), '--output-type', 'json', 'src'];
  const { stdout, stderr } = spawnSync(process.execPath, [program, ...args], { cwd: directory, encoding: 'utf8' });
  assert.notEqual(stdout, '', stderr);
  const { summary } = JSON.parse(stdout) as { summary: { violations: { rule: { name: string } }[] } };
  return [...new Set(summary.violations.map(({ rule }) => rule.name))].sort();
}

/** A tree of its own with these files under src/, and the project's libraries. */
function rulesBrokenBy(files: Readonly<Record<string, string>>): string[] {
  const directory = mkdtempSync(path.join(tmpdir(), 'imports-'));
  try {
    symlinkSync(path.join(root, 'node_modules'), path.join(directory, 'node_modules'));
    symlinkSync(path.join(root, 'tsconfig.json'), path.join(directory, 'tsconfig.json'));
    for (const [name, text] of Object.entries(files)) {
      const file = path.join(directory, 'src', name);
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, text);
    }
    return brokenRules(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const imports = (from: string): string => `import { it } from '${from}';\nexport const other = it;\n`;
const EXPORTS = 'export const it = 1;\n';

test('an import by the door of a lower room is allowed', () => {
  assert.deepEqual(
    rulesBrokenBy({ 'keyring/index.ts': imports('../errors/index.ts'), 'errors/index.ts': EXPORTS }),
    [],
  );
});

const CASES: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'no-circle': {
    'log/index.ts': `import type { B } from './b.ts';\nexport interface A { readonly b: B }\n`,
    'log/b.ts': `import type { A } from './index.ts';\nexport interface B { readonly a: A }\n`,
  },
  'by-the-door': { 'keyring/index.ts': imports('../errors/table.ts'), 'errors/table.ts': EXPORTS },
  'no-room-outside-the-rows': { 'cli/main.ts': imports('../utils/index.ts'), 'utils/index.ts': EXPORTS },
  'upward-from-keyring': { 'keyring/index.ts': imports('../api/index.ts'), 'api/index.ts': EXPORTS },
  'token-process-apart': {
    'token/client/client.ts': imports('../process/pin.ts'),
    'token/process/pin.ts': EXPORTS,
  },
  'only-token-pkcs11-knows-pkcs11js': {
    'token/client/client.ts': `import type { PKCS11 } from 'pkcs11js';\nexport type Module = PKCS11;\n`,
  },
  'only-api-knows--grpc-grpc-js': {
    'keyring/index.ts': `import { status } from '@grpc/grpc-js';\nexport const other = status;\n`,
  },
};
for (const [rule, files] of Object.entries(CASES)) {
  test(`${rule} refuses the import that it exists for`, () => {
    assert.deepEqual(rulesBrokenBy(files), [rule]);
  });
}
