import { randomBytes } from 'node:crypto';
import type { Call } from '../../../src/call/index.ts';
import type { EnvelopeConfig, SchemeConfig } from '../../../src/config/index.ts';
import type { SealingKey } from '../../../src/cipher/index.ts';
import { KmsError } from '../../../src/errors/index.ts';

export const DIRECT: SchemeConfig = { name: 'direct', largeValues: 'data-key' };

export function envelope(changes: Partial<EnvelopeConfig> = {}): SchemeConfig {
  return {
    name: 'envelope',
    largeValues: 'data-key',
    envelope: {
      dataKey: 'reuse',
      maxAgeMs: 3_600_000,
      maxValues: 1_000_000,
      maxBytes: 2 ** 36,
      cacheSize: 10_000,
      cacheTtlMs: 3_600_000,
      ...changes,
    },
  };
}

export const newKeyId = (): string => randomBytes(16).toString('hex');

export const sealingKey = (keyId: string, changes: Partial<SealingKey['token']> = {}): SealingKey => ({
  keyId,
  token: { scheme: 1, ivBy: 'caller', maxValueBytes: undefined, ...changes },
});

/** A call with its own end: `cancel` is its client leaving. */
export function callFor(milliseconds = 10_000): Call & { cancel(): void } {
  const controller = new AbortController();
  const end = (): void => controller.abort(new KmsError('deadline', 'the deadline of the call passed'));
  setTimeout(end, milliseconds).unref();
  return {
    deadline: performance.now() + milliseconds,
    signal: controller.signal,
    cancel: () => controller.abort(new KmsError('cancelled', 'the client left')),
  };
}

/** Resolves after what is ready to run now has run. */
export const turn = (): Promise<void> => new Promise((resolve) => void setImmediate(() => void setImmediate(resolve)));
