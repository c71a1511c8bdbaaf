/** Calls of every kind, good and bad, on both listeners of an installation, until it is stopped. */
import { readFileSync } from 'node:fs';
import { KmsClient } from '../api/support/clients.ts';
import { pause } from '../api/support/fixture.ts';
import type { Installation } from '../service/installation.ts';

/** @returns what ends it. */
export function putUnderLoad({ fixture }: Installation): () => Promise<void> {
  const credhub = new KmsClient(fixture.at('run/credhub.sock'), readFileSync(fixture.ca.certificate));
  const kubernetes = new KmsClient(fixture.at('run/kubernetes.sock'));
  let running = true;
  const asCredHub = async (size: number): Promise<void> => {
    const value = Buffer.alloc(size, 0x61);
    while (running) {
      const { response } = await credhub.encrypt(value);
      await credhub.decrypt(response?.cipher ?? Buffer.alloc(0));
      await credhub.decrypt(Buffer.alloc(144, 0x62));
      await pause(5);
    }
  };
  const asKubernetes = async (): Promise<void> => {
    const { v2 } = kubernetes;
    for (let number = 0; running; number++) {
      const uid = `request-${number}`;
      await kubernetes.status();
      const { response } = await kubernetes.call<Sealed>(v2.Encrypt, v2, { plaintext: Buffer.alloc(32, 0x63), uid });
      await kubernetes.call(v2.Decrypt, v2, { uid, ...response });
      await kubernetes.check('');
      await pause(5);
    }
  };
  const loops = Promise.all([asCredHub(20), asCredHub(4_000), asKubernetes()]);
  return async () => {
    running = false;
    await loops;
    credhub.close();
    kubernetes.close();
  };
}

interface Sealed {
  readonly ciphertext: Buffer;
  readonly key_id: string;
  readonly annotations: object;
}
