/** Every example of the help is run as it stands there, on a running installation. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { COMMANDS } from '../../src/cli/commands.ts';
import { overview, usageOf } from '../../src/cli/help.ts';
import { makeInstallation, type Installation } from '../service/installation.ts';
import { program, type Watched } from '../service/processes.ts';

const BUNDLE = path.resolve(import.meta.dirname, '../../dist/kms-plugin.cjs');

let installation: Installation;
let service: Watched;

before(async () => {
  installation = await makeInstallation();
  service = program('serve', '--config', installation.config);
  await service.said(/^ready/);
  installation.fixture.write('kms-plugin.log', service.stdout);
});
after(async () => {
  service.kill();
  await service.ended();
  await installation.cleanup();
});

/** Lines of a help text that are command lines without a word in capitals, which stands for something. */
function examplesIn(help: string): string[] {
  return [...help.matchAll(/^(?:Examples:)? +(kms-plugin [a-z].*)$/gm)].flatMap(([, line = '']) =>
    line.replace(/,$/, '').split(', '),
  );
}

describe('the examples of', () => {
  const screens = [
    ['--help', overview()] as const,
    ...COMMANDS.map((each) => [each.words.join(' '), usageOf(each)] as const),
  ];
  const all = screens.flatMap(([name, help]) => examplesIn(help).map((line) => [name, line] as const));

  it('the help are found', () => {
    assert.equal(all.length, 3 + COMMANDS.flatMap(({ examples = [] }) => examples).length);
  });

  for (const [name, line] of all) {
    it(`${name}: ${line}`, () => {
      const [, ...words] = line.split(' ');
      const { status, stdout, stderr } = spawnSync(process.execPath, [BUNDLE, ...words], {
        cwd: installation.fixture.directory,
        env: { PATH: process.env['PATH'], KMS_PLUGIN_CONFIG: installation.config },
        encoding: 'utf8',
        timeout: 30_000,
      });
      assert.equal(status, 0, stdout + stderr);
      assert.equal(stderr, '');
    });
  }
});
