import { KmsError, toKmsError } from '../errors/index.ts';
import type { Keyring } from '../keyring/index.ts';

/** What v2's Status answers. */
export interface StatusAnswer {
  readonly version: string;
  readonly healthz: string;
  readonly keyId: string;
}

/** A listener with v2 as kube-apiserver sees it. */
export interface KubernetesReport {
  /** What Status answers now; absent when it fails, which `problems` then tells. */
  readonly status?: StatusAnswer;
  /** What kube-apiserver has against that answer, in the operator's words; empty when nothing. */
  readonly problems: readonly string[];
  /** The last call of Status on this listener since the start, our own commands' aside; absent when there was none. */
  readonly lastAsked?: StatusAsked;
}

export interface StatusAsked {
  /** ISO time. */
  readonly at: string;
  /** What the client calls itself, such as grpc-go/1.79.3. */
  readonly client: string;
}

const VERSION = 'v2';

/** kmsv2.KeyIDMaxSize of k8s.io/apiserver, in bytes. */
const LONGEST_KEY_ID = 1024;

/** What our own commands call themselves: they must not pass for kube-apiserver. */
export const OUR_CLIENT = 'kms-plugin';

/** Longest name of a client that is kept, in characters. */
const LONGEST_CLIENT = 64;

/**
 * From memory: kube-apiserver polls it, and takes anything but "ok" for the reason why not.
 * @throws KmsError 'token-starting'
 */
export function statusAnswer(keyring: Pick<Keyring, 'health'>): StatusAnswer {
  const { ok, reason, activeKeyId, activeKeyGone } = keyring.health();
  // kube-apiserver goes on writing for as long as Status names the key, whatever healthz says: right while the HSM is away,
  // wrong when the key is gone, since nobody could read those secrets after its restart.
  if (activeKeyGone) return { version: VERSION, healthz: reason, keyId: '' };
  if (activeKeyId === undefined) {
    // Without a key_id kube-apiserver takes no answer at all.
    throw new KmsError('token-starting', `the key that encrypts has never been seen: ${reason}`);
  }
  return { version: VERSION, healthz: ok ? 'ok' : reason, keyId: activeKeyId };
}

/** kube-apiserver's own checks of an answer (k8s.io/apiserver, isKMSv2ProviderHealthyAndMatchesEncryptKeyID, ValidateKeyID). */
export function checkedByApiServer({ version, healthz, keyId }: StatusAnswer): readonly string[] {
  const problems: string[] = [];
  if (healthz !== 'ok') {
    problems.push(
      `healthz is not "ok", but: ${healthz}; the API server is not ready; writes go on as long as key_id is given`,
    );
  }
  if (version !== 'v2' && version !== 'v2beta1') problems.push(`version is "${version}", neither v2 nor v2beta1`);
  const bytes = Buffer.byteLength(keyId);
  if (bytes === 0) problems.push('key_id is empty: writes stop 3 minutes after the last one that was not');
  if (bytes > LONGEST_KEY_ID) problems.push(`key_id has ${bytes} bytes, more than ${LONGEST_KEY_ID}`);
  return problems;
}

/** Who asked for Status last, on each listener; our own commands do not count. */
export class StatusAskers {
  readonly #last = new Map<string, StatusAsked>();

  /** @param client - a stranger's word: what could disturb a terminal or a log is left out. */
  asked(listener: string, client: string): void {
    if (client.startsWith(`${OUR_CLIENT} `)) return;
    const named = client.replace(/[^\x20-\x7e]/g, '').slice(0, LONGEST_CLIENT);
    this.#last.set(listener, { at: new Date().toISOString(), client: named });
  }

  last(listener: string): StatusAsked | undefined {
    return this.#last.get(listener);
  }
}

export function kubernetesReport(
  keyring: Pick<Keyring, 'health'>,
  lastAsked: StatusAsked | undefined,
): KubernetesReport {
  const asked = lastAsked === undefined ? {} : { lastAsked };
  try {
    const status = statusAnswer(keyring);
    return { status, problems: checkedByApiServer(status), ...asked };
  } catch (error) {
    return { problems: [`Status fails: ${toKmsError(error).message}`], ...asked };
  }
}
