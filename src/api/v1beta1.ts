import type { UntypedServiceImplementation } from '@grpc/grpc-js';
import { KmsError } from '../errors/index.ts';
import type { DecryptResult, EncryptResult } from '../keyring/index.ts';
import { type Caller, type Core, NOTHING } from './core.ts';
import { DecryptErrand, EncryptErrand } from './errand.ts';

const VERSION = 'v1beta1';

interface VersionRequest {
  readonly version: string;
}
interface VersionResponse {
  readonly version: string;
  readonly runtime_name: string;
  readonly runtime_version: string;
}
interface EncryptRequest {
  readonly version: string;
  plain: Buffer;
}
interface DecryptRequest {
  readonly version: string;
  cipher: Buffer;
}

/** KeyManagementService of v1beta1, for one connection. */
export function v1beta1Service(core: Core, caller: Caller): UntypedServiceImplementation {
  const { ledger } = core;
  return {
    Version: core.local<VersionRequest, VersionResponse>(ledger.tally(VERSION, 'Version'), caller, {
      answer: ({ version }) => {
        checkVersion(version);
        // kube-apiserver refuses any other `version`; it logs the other two.
        return { version: VERSION, runtime_name: 'hsm-kms-plugin', runtime_version: core.version };
      },
    }),
    Encrypt: core.hsm<EncryptRequest, { cipher: Buffer }, EncryptResult>(ledger.tally(VERSION, 'Encrypt'), caller, {
      take: (request) => {
        const { plain } = request;
        request.plain = NOTHING;
        return plain;
      },
      errand: ({ version }, plain) => {
        checkVersion(version);
        return new EncryptErrand(core.keyring, plain, core.limits.valueBytes);
      },
      answer: ({ ciphertext, keyId }) => ({
        response: { cipher: ciphertext },
        responseBytes: ciphertext.length,
        keyId,
      }),
    }),
    Decrypt: core.hsm<DecryptRequest, { plain: Buffer }, DecryptResult>(ledger.tally(VERSION, 'Decrypt'), caller, {
      take: (request) => {
        const { cipher } = request;
        request.cipher = NOTHING;
        return cipher;
      },
      errand: ({ version }, cipher) => {
        checkVersion(version);
        return new DecryptErrand(core.keyring, cipher);
      },
      answer: ({ plaintext, keyId }) => ({ response: { plain: plaintext }, responseBytes: plaintext.length, keyId }),
    }),
  };
}

/** kube-apiserver sends v1beta1, CredHub sends nothing. */
function checkVersion(version: string): void {
  if (version === '' || version === VERSION) return;
  throw new KmsError('wrong-version', `this service speaks ${VERSION}; the request asks for another version`);
}
