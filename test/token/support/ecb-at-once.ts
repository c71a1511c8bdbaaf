/**
 * AES-ECB on 32 sessions at once through a module that passes nothing better on, as a program of its own. Reads an EcbJob on
 * stdin.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { constants, Pkcs11Module } from '../../../src/token/pkcs11/module.ts';
import { Session } from '../../../src/token/pkcs11/session.ts';

export interface EcbJob {
  readonly module: string;
  readonly label: string;
  readonly pin: string;
  readonly key: string;
}

const job = JSON.parse(readFileSync(0, 'utf8')) as EcbJob;
const module = new Pkcs11Module(job.module);
module.initialize();
const token = module.tokens().find(({ label }) => label === job.label);
assert.ok(token);
const open = (): Session => new Session(module, module.openSession(token.slot, { writable: false }), new Set());
const sessions = Array.from({ length: 32 }, open);
const [first] = sessions;
assert.ok(first);
module.login(first.handle, constants.CKU_USER, job.pin);
const [key] = module.findObjects(first.handle, [{ type: constants.CKA_LABEL, value: Buffer.from(job.key) }]);
assert.ok(key);
const encrypt = (session: Session): Promise<Buffer> =>
  session.encrypt({ mechanism: constants.CKM_AES_ECB }, key, Buffer.alloc(16, 7), 32);
const expected = await encrypt(first);
assert.equal(expected.length, 16);
await Promise.all(
  sessions.map(async (session) => {
    for (let turn = 0; turn < 20; turn++) assert.deepEqual(await encrypt(session), expected);
  }),
);
for (const session of sessions) session.close();
module.finalize();
