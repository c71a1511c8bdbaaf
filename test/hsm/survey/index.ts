import path from 'node:path';
import { run } from '../fixture.ts';
import type { Hsm } from '../fixture.ts';
import type { Facts, SurveyJob } from './subject.ts';

export type { Facts } from './subject.ts';

/** Makes the keys that the experiments need, and runs them in a process of their own. Locks the token's PIN. */
export async function survey(hsm: Hsm): Promise<Facts> {
  await hsm.makeKeys({
    aes: { id: Buffer.from('0123456789abcdef') },
    another: { id: Buffer.from('another-0123456') },
    mac: { generic: true },
  });
  const { module, label, pin, libraryParameters } = hsm;
  const parameters = libraryParameters === undefined ? {} : { libraryParameters };
  const job: SurveyJob = { module, label, pin, aes: 'aes', mac: 'mac', ...parameters };
  const program = path.join(import.meta.dirname, 'main.ts');
  const out = await run([...hsm.wrap, process.execPath, '--disable-warning=ExperimentalWarning', program], {
    environment: { ...hsm.environment, NODE_OPTIONS: '' },
    input: JSON.stringify(job),
  });
  return JSON.parse(out) as Facts;
}
