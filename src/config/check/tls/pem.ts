import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { readSmallFile } from '../../files.ts';
import type { Sheet } from '../../problems.ts';
import { warnIfOpen } from '../secret-file.ts';

const MAX_BYTES = 1024 * 1024;
const PEM_CERTIFICATE = /-----BEGIN (TRUSTED )?CERTIFICATE-----[^-]*-----END (TRUSTED )?CERTIFICATE-----/g;

/** The PEM certificates of a file, in their order; undefined (reported) when there are none. */
export function readCertificates(
  property: string,
  file: string | undefined,
  sheet: Sheet,
): X509Certificate[] | undefined {
  if (file === undefined) return undefined;
  const read = readSmallFile(file, MAX_BYTES);
  if ('trouble' in read) {
    sheet.problem(property, `names ${file}, which ${read.trouble}`, 'name a PEM file that the plugin can read');
    return undefined;
  }
  try {
    const certificates = certificatesIn(read.bytes);
    if (certificates.length > 0) return certificates;
    const mend = 'give a file with -----BEGIN CERTIFICATE-----; openssl x509 -inform der turns DER into one';
    sheet.problem(property, `names ${file}, which holds no PEM certificate`, mend);
    return undefined;
  } catch {
    const mend = 'make it again or copy it again; openssl x509 -text -noout shows whether it is whole';
    sheet.problem(property, `names ${file}, which holds a certificate that cannot be parsed`, mend);
    return undefined;
  }
}

/** Throws for one that cannot be parsed. */
export function certificatesIn(pem: Buffer): X509Certificate[] {
  return (pem.toString('latin1').match(PEM_CERTIFICATE) ?? []).map((block) => new X509Certificate(block));
}

/** The private key of a PEM file; undefined (reported) when it cannot be had. */
export function readPrivateKey(property: string, file: string | undefined, sheet: Sheet): KeyObject | undefined {
  if (file === undefined) return undefined;
  const read = readSmallFile(file, MAX_BYTES);
  if ('trouble' in read) {
    sheet.problem(property, `names ${file}, which ${read.trouble}`, 'name a PEM file that the plugin can read');
    return undefined;
  }
  const { bytes, mode } = read;
  try {
    const key = createPrivateKey(bytes);
    warnIfOpen(property, file, mode, sheet);
    return key;
  } catch {
    if (bytes.includes('ENCRYPTED')) {
      const mend = 'give the key without a passphrase, in a file of mode 0600 or 0640';
      sheet.problem(property, `names ${file}, which is protected by a passphrase`, mend);
    } else {
      sheet.problem(
        property,
        `names ${file}, which holds no PEM private key`,
        'give the key that the certificate was made for',
      );
    }
    return undefined;
  } finally {
    bytes.fill(0);
  }
}
