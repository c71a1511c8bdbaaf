import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parse } from 'yaml';
import { checkConfig, type Config } from '../../src/config/index.ts';
import { file } from './render.ts';

/** Lays the rendered job out under another root than /, and reads it with the plugin's own reader. */
export function load(rendered: Readonly<Record<string, string>>): { config: Config; cleanUp: () => void } {
  const elsewhere = mkdtempSync(path.join(tmpdir(), 'kms-vm-'));
  const moved = (text: string): string =>
    text.replaceAll('/var/vcap', `${elsewhere}/vcap`).replaceAll('/opt/', `${elsewhere}/opt/`);
  const job = path.join(elsewhere, 'vcap/jobs/kms-plugin');
  for (const [name, text] of Object.entries(rendered)) {
    mkdirSync(path.dirname(path.join(job, name)), { recursive: true });
    writeFileSync(path.join(job, name), name === 'config/pin' ? text : moved(text), { mode: 0o640 });
  }
  for (const directory of ['vcap/data/kms-plugin', 'vcap/sys/run/kms-plugin']) {
    mkdirSync(path.join(elsewhere, directory), { recursive: true });
  }
  const written = parse(file(rendered, 'config/kms-plugin.yml')) as { token: { module: string } };
  const module = moved(written.token.module);
  mkdirSync(path.dirname(module), { recursive: true });
  writeFileSync(module, '');
  const cleanUp = (): void => rmSync(elsewhere, { recursive: true });
  const { config, problems } = checkConfig(path.join(job, 'config/kms-plugin.yml'));
  if (config !== undefined) return { config, cleanUp };
  cleanUp();
  assert.fail(`the plugin refuses what was rendered: ${JSON.stringify(problems, null, 1)}`);
}
