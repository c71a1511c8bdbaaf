import pkcs11js from 'pkcs11js';

/** Names that pkcs11js does not have. */
const others: Readonly<Record<string, number>> = {
  CKR_AEAD_DECRYPT_FAILED: 0x42,
  CKR_OPERATION_CANCEL_FAILED: 0x202,
  CKR_SESSION_ASYNC_NOT_SUPPORTED: 0x205,
};

function lookUp(name: string): number {
  const value: unknown = Reflect.get(pkcs11js, name) ?? others[name];
  if (typeof value !== 'number') throw new Error(`no PKCS#11 constant is called ${name}`);
  return value;
}

/** A CKR_, CKM_ or CKF_ value by name or as it is. */
export function code(value: string | number): number {
  return typeof value === 'number' ? value : lookUp(value);
}

/** The CKR_ name of a return value, for messages. */
export function codeName(value: number): string {
  const known = Object.entries({ ...pkcs11js, ...others }).find(
    ([name, number]) => name.startsWith('CKR_') && number === value,
  );
  return known?.[0] ?? `0x${value.toString(16)}`;
}
