/** An API server in a process of its own, without an HSM: alone.ts SOCKET. Its memory is what a test looks at. */
import { createApiServer } from '../../../src/api/index.ts';
import { LIMITS, listenerAt } from './fixture.ts';
import { FakeKeyring, KEY_ID } from './keyring.ts';
import { KeptLog } from './log.ts';

const [socket = ''] = process.argv.slice(2);

/** Its ciphertexts are values under a header, made without touching each byte. */
class QuickKeyring extends FakeKeyring {
  override encrypt(plaintext: Buffer) {
    return Promise.resolve({ ciphertext: Buffer.concat([Buffer.from(KEY_ID, 'hex'), plaintext]), keyId: KEY_ID });
  }
  override refusal(): undefined {
    return undefined;
  }
  override decrypt(ciphertext: Buffer) {
    return Promise.resolve({ plaintext: Buffer.from(ciphertext.subarray(16)), keyId: KEY_ID });
  }
}

const log = new KeptLog();
const server = createApiServer({
  listeners: [listenerAt(socket)],
  limits: LIMITS,
  keyring: new QuickKeyring(),
  log,
  version: '1.0.0',
});
await server.open();
process.on('SIGTERM', () => {
  const kinds = new Map<string, number>();
  for (const { message } of log.lines) kinds.set(message, (kinds.get(message) ?? 0) + 1);
  process.stdout.write(`${JSON.stringify([...kinds])}\n`, () => process.exit(0));
});
process.stdout.write('listening\n');
