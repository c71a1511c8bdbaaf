import { BlockList } from 'node:net';
import type { Sheet } from '../problems.ts';
import type { FileDraft } from '../schema.ts';
import { ENVELOPE_DEFAULTS } from '../schema.ts';

/** What a message holds beside its value: field tags, lengths, key id, annotations, the ciphertext's own header. */
const MESSAGE_OVERHEAD_BYTES = 1024;

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

export function checkLimits({ limits }: FileDraft, sheet: Sheet): void {
  const { value, message, hide, call_deadline: deadline } = limits ?? {};
  if (value !== undefined && message !== undefined && message < value + MESSAGE_OVERHEAD_BYTES) {
    const least = value + MESSAGE_OVERHEAD_BYTES;
    const trouble = `is ${message} bytes, too few for a value of limits.value (${value} bytes) and 1KiB around it`;
    sheet.problem('limits.message', trouble, `set it to ${least}B or more, or lower limits.value`);
  }
  if (hide !== undefined && deadline !== undefined && hide >= deadline) {
    sheet.warn('limits.hide', 'is no shorter than limits.call_deadline, which ends calls first', 'set it to less');
  }
}

export function checkHealth({ health }: FileDraft, sheet: Sheet): void {
  const address = health?.address;
  if (address === undefined || LOOPBACK.check(address, address.includes(':') ? 'ipv6' : 'ipv4')) return;
  const trouble = `is ${address}, so that other hosts can read health and metrics, without TLS`;
  sheet.warn('health.address', trouble, 'use 127.0.0.1 unless a firewall guards the port');
}

export function checkScheme({ scheme, limits }: FileDraft, sheet: Sheet): void {
  if (scheme?.name === undefined) return;
  const { name, large_values: largeValues, ...envelope } = scheme;
  if (name === 'envelope') {
    if (typeof largeValues === 'string') {
      sheet.warn('scheme.large_values', 'has no effect with name: envelope', 'remove it');
    }
    const maxBytes = envelope.max_bytes === null ? ENVELOPE_DEFAULTS.maxBytes : envelope.max_bytes;
    if (maxBytes !== undefined && limits?.value !== undefined && maxBytes < limits.value) {
      const trouble = `is ${maxBytes} bytes, less than one value may have`;
      sheet.problem('scheme.max_bytes', trouble, `set it to limits.value (${limits.value}B) or more`);
    }
    return;
  }
  for (const [setting, value] of Object.entries(envelope)) {
    if (value !== null && value !== undefined) {
      sheet.warn(`scheme.${setting}`, 'has no effect without name: envelope', 'remove it, or set scheme.name');
    }
  }
}
