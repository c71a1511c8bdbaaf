/** How Node is started for the two processes: in force, and in every place that starts it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Bench } from '../token/support/installation.ts';
import { HARDENED } from '../service/processes.ts';

const root = path.resolve(import.meta.dirname, '../..');
const ADDON = path.join(root, 'node_modules/pkcs11js/build/Release/pkcs11.node');

/** Runs an expression in a Node started so. */
function evaluated(flags: readonly string[], expression: string, environment: NodeJS.ProcessEnv = {}): string {
  const program = `try { console.log('did', ${expression}); } catch (error) { console.log(error.code); }`;
  const run = spawnSync(process.execPath, [...flags, '-e', program], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], ...environment },
  });
  return run.stdout.trim();
}

describe('Node, as it is started for the plugin process', () => {
  const attempts = [
    ['({}).__proto__', 'ERR_PROTO_ACCESS', 'did [Object: null prototype] {}'],
    [`typeof require(${JSON.stringify(ADDON)})`, 'ERR_DLOPEN_DISABLED', 'did object'],
  ] as const;
  for (const [attempt, refused, allowed] of attempts) {
    it(`refuses ${attempt}, from the command line and from the environment`, () => {
      assert.equal(evaluated([], attempt), allowed);
      assert.equal(evaluated(HARDENED, attempt), refused);
      assert.equal(evaluated([], attempt, { NODE_OPTIONS: HARDENED.join(' ') }), refused);
    });
  }

  const starters = [
    'jobs/kms-plugin/templates/kms-plugin.erb',
    'scripts/lib/oci-layout.mjs',
    'scripts/lib/dev.sh',
    'scripts/run',
  ];
  for (const file of starters) {
    it(`is started so by ${file}`, () => {
      const starts = readFileSync(path.join(root, file), 'utf8')
        .split('\n')
        .filter((line) => /bin\/node --max|HARDENED =|exec %q|\bnode .*serve/.test(line));
      assert.ok(starts.length > 0);
      for (const line of starts) for (const flag of HARDENED) assert.ok(line.includes(flag), line);
    });
  }
});

describe('Node, as the plugin starts it for the token process', () => {
  let bench: Bench;
  before(async () => {
    bench = await Bench.make();
  });
  after(() => bench.cleanup());

  it('knows no __proto__, and loads the addon that it needs', async () => {
    const host = await bench.readyHost();
    await host.encrypt(Buffer.alloc(1));
    const line = readFileSync(`/proc/${host.token.report().process.pid ?? 0}/cmdline`, 'utf8').split('\0');
    assert.ok(line.includes('--disable-proto=throw') && !line.includes('--no-addons'), line.join(' '));
  });
});
