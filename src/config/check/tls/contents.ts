/** What a certificate says of itself and Node's X509Certificate does not show (RFC 5280, section 4; DER, X.690). */
import type { X509Certificate } from 'node:crypto';

export interface Contents {
  readonly key: PublicKey;
  /** The signature on it, e.g. `SHA-256 with ECDSA`; the object identifier where it has no name here. */
  readonly signature: string;
  /** Whether digital signatures are among its uses, and whether signing certificates is; both where it restricts neither. */
  readonly mayServe: boolean;
  readonly maySign: boolean;
  /** Object identifiers of the extensions that a client must know or refuse. */
  readonly critical: readonly string[];
  readonly subjectIsEmpty: boolean;
  /** The last common name of its subject, which is the most specific. */
  readonly commonName: string | undefined;
  /** Its DNS subject alternative names. */
  readonly dnsNames: readonly string[];
}

export interface PublicKey {
  /** `RSA`, `RSA-PSS`, `EC`, `Ed25519` …, or the object identifier of its algorithm. */
  readonly algorithm: string;
  /** The name of an EC key's curve, or its object identifier; `explicit parameters` where it has no name. */
  readonly curve?: string;
  /** Length of an RSA key's modulus. */
  readonly bits?: number;
}

/** Throws for what is no certificate. */
export function contentsOf(certificate: X509Certificate): Contents {
  const [toBeSigned, algorithm] = childrenOf(new Element(certificate.raw));
  if (toBeSigned === undefined || algorithm === undefined) throw new Error('not a certificate');
  // version [0] is left out of version 1.
  const fields = childrenOf(toBeSigned).filter(({ tag }) => tag !== 0xa0);
  const [, , , , subject, keyInfo] = fields;
  const extensions = extensionsOf(fields.find(({ tag }) => tag === 0xa3));
  const usage = extensions.find(({ id }) => id === KEY_USAGE)?.value;
  // BIT STRING: the number of unused bits, then the bits from the highest on: 0 digitalSignature, 5 keyCertSign.
  const uses = usage === undefined ? 0xff : (new Element(usage).content[1] ?? 0);
  return {
    key: keyOf(keyInfo),
    signature: signatureOf(algorithm),
    mayServe: (uses & 0x80) !== 0,
    maySign: (uses & 0x04) !== 0,
    critical: extensions.filter(({ critical }) => critical).map(({ id }) => id),
    subjectIsEmpty: subject?.content.length === 0,
    commonName: commonNameOf(subject),
    dnsNames: dnsNamesOf(extensions.find(({ id }) => id === SUBJECT_ALTERNATIVE_NAME)?.value),
  };
}

const KEY_USAGE = '2.5.29.15';
export const SUBJECT_ALTERNATIVE_NAME = '2.5.29.17';
const COMMON_NAME = '2.5.4.3';
/** The tag of GeneralName's dNSName, [2] IMPLICIT IA5String. */
const DNS_NAME = 0x82;

const KEYS: Readonly<Record<string, string>> = {
  '1.2.840.113549.1.1.1': 'RSA',
  '1.2.840.113549.1.1.10': 'RSA-PSS',
  '1.2.840.10045.2.1': 'EC',
  '1.2.840.10040.4.1': 'DSA',
  '1.3.101.112': 'Ed25519',
  '1.3.101.113': 'Ed448',
};

const CURVES: Readonly<Record<string, string>> = {
  '1.2.840.10045.3.1.7': 'P-256',
  '1.3.132.0.34': 'P-384',
  '1.3.132.0.35': 'P-521',
  '1.3.132.0.33': 'P-224',
  '1.2.840.10045.3.1.1': 'P-192',
  '1.3.132.0.10': 'secp256k1',
  '1.3.36.3.3.2.8.1.1.7': 'brainpoolP256r1',
  '1.3.36.3.3.2.8.1.1.11': 'brainpoolP384r1',
  '1.3.36.3.3.2.8.1.1.13': 'brainpoolP512r1',
};

const HASHES: Readonly<Record<string, string>> = {
  '1.3.14.3.2.26': 'SHA-1',
  '2.16.840.1.101.3.4.2.1': 'SHA-256',
  '2.16.840.1.101.3.4.2.2': 'SHA-384',
  '2.16.840.1.101.3.4.2.3': 'SHA-512',
  '2.16.840.1.101.3.4.2.4': 'SHA-224',
};

const SIGNATURES: Readonly<Record<string, string>> = {
  '1.2.840.10045.4.1': 'SHA-1 with ECDSA',
  '1.2.840.10045.4.3.1': 'SHA-224 with ECDSA',
  '1.2.840.10045.4.3.2': 'SHA-256 with ECDSA',
  '1.2.840.10045.4.3.3': 'SHA-384 with ECDSA',
  '1.2.840.10045.4.3.4': 'SHA-512 with ECDSA',
  '1.2.840.113549.1.1.4': 'MD5 with RSA',
  '1.2.840.113549.1.1.5': 'SHA-1 with RSA',
  '1.2.840.113549.1.1.14': 'SHA-224 with RSA',
  '1.2.840.113549.1.1.11': 'SHA-256 with RSA',
  '1.2.840.113549.1.1.12': 'SHA-384 with RSA',
  '1.2.840.113549.1.1.13': 'SHA-512 with RSA',
  '1.3.101.112': 'Ed25519',
  '1.3.101.113': 'Ed448',
};
const RSA_PSS = '1.2.840.113549.1.1.10';

function keyOf(info: Element | undefined): PublicKey {
  const [algorithm, key] = info === undefined ? [] : childrenOf(info);
  const [id, parameters] = algorithm === undefined ? [] : childrenOf(algorithm);
  const oid = id === undefined ? '' : identifierOf(id);
  const name = KEYS[oid] ?? oid;
  if (name.startsWith('RSA') && key !== undefined) return { algorithm: name, bits: modulusBits(key) };
  if (name !== 'EC') return { algorithm: name };
  if (parameters?.tag !== 0x06) return { algorithm: name, curve: 'explicit parameters' };
  const curve = identifierOf(parameters);
  return { algorithm: name, curve: CURVES[curve] ?? curve };
}

/** BIT STRING with no unused bits, in it RSAPublicKey: modulus, exponent (RFC 8017, A.1.1). */
function modulusBits(key: Element): number {
  const [modulus] = childrenOf(new Element(key.content.subarray(1)));
  const digits = (modulus?.content.toString('hex') ?? '').replace(/^0+/, '');
  return digits === '' ? 0 : digits.length * 4 - Math.clz32(Number.parseInt(digits.slice(0, 1), 16)) + 28;
}

function signatureOf(algorithm: Element): string {
  const [id, parameters] = childrenOf(algorithm);
  const oid = id === undefined ? '' : identifierOf(id);
  if (oid !== RSA_PSS) return SIGNATURES[oid] ?? oid;
  // RSASSA-PSS-params: hashAlgorithm [0], SHA-1 where it is left out (RFC 8017, A.2.3).
  const hash = parameters === undefined ? undefined : childrenOf(parameters).find(({ tag }) => tag === 0xa0);
  const [hashAlgorithm] = hash === undefined ? [] : childrenOf(hash);
  const [hashId] = hashAlgorithm === undefined ? [] : childrenOf(hashAlgorithm);
  const hashOid = hashId === undefined ? '1.3.14.3.2.26' : identifierOf(hashId);
  return `${HASHES[hashOid] ?? hashOid} with RSA-PSS`;
}

/** RDNSequence: a SEQUENCE of SETs of attributes, each its type and its value. */
function commonNameOf(subject: Element | undefined): string | undefined {
  const attributes = (subject === undefined ? [] : childrenOf(subject)).flatMap(childrenOf).map(childrenOf);
  const [, value] = attributes.findLast(([type]) => type !== undefined && identifierOf(type) === COMMON_NAME) ?? [];
  return value?.content.toString('utf8');
}

function dnsNamesOf(value: Buffer | undefined): string[] {
  const names = value === undefined ? [] : childrenOf(new Element(value));
  return names.filter(({ tag }) => tag === DNS_NAME).map(({ content }) => content.toString('latin1'));
}

interface Extension {
  readonly id: string;
  readonly critical: boolean;
  readonly value: Buffer;
}

function extensionsOf(element: Element | undefined): Extension[] {
  const [list] = element === undefined ? [] : childrenOf(element);
  return (list === undefined ? [] : childrenOf(list)).map((extension) => {
    const parts = childrenOf(extension);
    const [id] = parts;
    return {
      id: id === undefined ? '' : identifierOf(id),
      critical: parts.some(({ tag, content }) => tag === 0x01 && content[0] !== 0),
      value: parts.at(-1)?.content ?? Buffer.alloc(0),
    };
  });
}

/** The first element of these bytes: one tag byte, which X.509 never exceeds, its length, its content. */
class Element {
  readonly tag: number;
  readonly content: Buffer;
  /** Bytes of all three together. */
  readonly size: number;

  constructor(bytes: Buffer) {
    const [tag, first] = bytes;
    if (tag === undefined || first === undefined) throw new Error('the certificate ends too early');
    const more = first < 0x80 ? 0 : first & 0x7f;
    const length = more === 0 ? first : bytes.readUIntBE(2, more);
    this.tag = tag;
    this.size = 2 + more + length;
    if (this.size > bytes.length) throw new Error('the certificate ends too early');
    this.content = bytes.subarray(2 + more, this.size);
  }
}

function childrenOf({ content }: Element): Element[] {
  const children: Element[] = [];
  for (let at = 0; at < content.length; at += children.at(-1)?.size ?? 0) {
    children.push(new Element(content.subarray(at)));
  }
  return children;
}

/** An object identifier as it is written: 40 × the first number + the second, then base 128 (X.690, section 8.19). */
function identifierOf({ content }: Element): string {
  const numbers: bigint[] = [];
  let number = 0n;
  for (const byte of content) {
    number = number * 128n + BigInt(byte & 0x7f);
    if (byte < 0x80) {
      numbers.push(number);
      number = 0n;
    }
  }
  const [head = 0n, ...rest] = numbers;
  const first = head < 80n ? head / 40n : 2n;
  return [first, head - first * 40n, ...rest].join('.');
}
