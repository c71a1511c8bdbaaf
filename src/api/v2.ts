import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { KmsError } from '../errors/index.ts';
import type { DecryptResult, EncryptResult } from '../keyring/index.ts';
import { type Caller, type Core, NOTHING } from './core.ts';
import { DecryptErrand, EncryptErrand } from './errand.ts';
import { statusAnswer } from './kubernetes.ts';

const VERSION = 'v2';

/** kube-apiserver refuses a longer ciphertext from Encrypt (kmsv2 envelope, encryptedDEKSourceMaxSize). */
const LARGEST_CIPHERTEXT = 1024;

/** Header, IV and tag: no scheme adds less (docs/ciphertext.md). */
const SMALLEST_OVERHEAD = 26 + 12 + 16;

interface StatusResponse {
  readonly version: string;
  readonly healthz: string;
  readonly key_id: string;
}
interface EncryptRequest {
  plaintext: Buffer;
  readonly uid: string;
}
interface EncryptResponse {
  readonly ciphertext: Buffer;
  readonly key_id: string;
}
interface DecryptRequest {
  ciphertext: Buffer;
  readonly uid: string;
  readonly key_id: string;
  readonly annotations: Readonly<Record<string, Buffer>>;
}

/** KeyManagementService of v2, for one connection. */
export function v2Service(core: Core, caller: Caller): UntypedServiceImplementation {
  const { ledger } = core;
  return {
    Status: core.local<object, StatusResponse>(ledger.tally(VERSION, 'Status'), caller, {
      answer: (_request, client) => {
        core.statusAskers.asked(caller.listener, client);
        const { version, healthz, keyId } = statusAnswer(core);
        return { version, healthz, key_id: keyId };
      },
    }),
    Encrypt: core.hsm<EncryptRequest, EncryptResponse, EncryptResult>(ledger.tally(VERSION, 'Encrypt'), caller, {
      take: (request) => {
        const { plaintext } = request;
        request.plaintext = NOTHING;
        return plaintext;
      },
      uid: ({ uid }) => uid,
      // Refused before the HSM works for it, when it is clear that no scheme makes it fit.
      errand: (_request, plaintext) => {
        checkCiphertextLength(plaintext.length + SMALLEST_OVERHEAD);
        return new EncryptErrand(core.keyring, plaintext, core.limits.valueBytes);
      },
      answer: ({ ciphertext, keyId }) => {
        checkCiphertextLength(ciphertext.length);
        return { response: { ciphertext, key_id: keyId }, responseBytes: ciphertext.length, keyId };
      },
    }),
    Decrypt: core.hsm<DecryptRequest, { plaintext: Buffer }, DecryptResult>(ledger.tally(VERSION, 'Decrypt'), caller, {
      take: (request) => {
        const { ciphertext } = request;
        request.ciphertext = NOTHING;
        return ciphertext;
      },
      uid: ({ uid }) => uid,
      errand: ({ key_id, annotations }, ciphertext) => {
        if (Object.keys(annotations).length > 0) {
          throw (
            core.keyring.refusal(ciphertext, expected(key_id)) ??
            new KmsError('annotations-mismatch', 'the request has annotations, and this plugin never gave any')
          );
        }
        return new DecryptErrand(core.keyring, ciphertext, expected(key_id));
      },
      answer: ({ plaintext, keyId }) => ({ response: { plaintext }, responseBytes: plaintext.length, keyId }),
    }),
  };
}

/** Check clients of other plugins send no key_id; the header names the key anyway. kube-apiserver always sends it. */
const expected = (keyId: string): string | undefined => (keyId === '' ? undefined : keyId);

function checkCiphertextLength(bytes: number): void {
  if (bytes <= LARGEST_CIPHERTEXT) return;
  throw new KmsError(
    'value-too-large',
    `the ciphertext would have ${bytes} bytes, and Kubernetes takes at most ${LARGEST_CIPHERTEXT} from a v2 plugin`,
    { bytes, limit: LARGEST_CIPHERTEXT },
  );
}
