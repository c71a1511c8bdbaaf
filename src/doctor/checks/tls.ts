import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { shakeHandsApart, type Handshake } from '../../api/index.ts';
import { credhubTakes, type ListenerConfig, type ListenerTls } from '../../config/index.ts';
import type { Facts } from '../facts.ts';
import { addressOf, socketName } from '../look/listening.ts';
import { ABOVE, failure, ok, unseen, warning, type Check, type Finding } from '../types.ts';
import { AGAIN, RELOAD } from '../words.ts';

const HANDSHAKE_MS = 2_000;
/** The file is good, since the configuration is checked first: what is served is another certificate. */
const UNREADABLE = `${RELOAD}: its file has another certificate by now; if it is served then too, see who listens there (ss -xlp)`;
const WARN_MS = 30 * 86_400_000;

/** For each listener with TLS: the handshake that CredHub would make, and what it would say. */
export const tls: Check = {
  name: 'tls',
  async run(facts) {
    if (facts.config === undefined) return [unseen('the configuration is at fault')];
    const withTls = facts.config.listeners.filter((listener) => listener.tls !== undefined);
    if (withTls.length === 0) return [ok('no listener has TLS, as for kube-apiserver; CredHub needs it')];
    return (await Promise.all(withTls.map((listener) => examine(facts, listener)))).flat();
  },
};

async function examine(facts: Facts, listener: ListenerConfig): Promise<Finding[]> {
  const { name, tls: settings, endpoint } = listener;
  if (settings?.caFile === undefined || settings.host === undefined) {
    return [unseen(`${name} has no tls.ca and tls.host`, 'set both to what CredHub has as ca and host')];
  }
  const target = addressOf(socketName(endpoint));
  const ca = readFileSync(settings.caFile);
  const seen = await shakeHandsApart({
    socketPath: target,
    host: settings.host,
    ca,
    withinMs: facts.patient(HANDSHAKE_MS),
  });
  if (seen.certificate === undefined) return [broken(name, seen, facts.isSlow)];
  const refusal = refusalOf(seen, settings.host);
  const outdated = isOutdated(seen, settings);
  if (
    refusal !== undefined &&
    credhubTakes(
      seen.certificate.chain.map((der) => new X509Certificate(der)),
      ca,
      settings.host,
      facts.around.now(),
    )
  ) {
    const trouble = `${name}: CredHub's client takes the certificate, and Node.js does not (${seen.refused ?? ''})`;
    return [warning(`${trouble}: roundtrip and this round trip fail`, 'see what the configuration check says of it')];
  }
  if (refusal !== undefined) {
    const mend = outdated
      ? `the file ${settings.certificateFile} has another certificate by now: ${RELOAD}`
      : refusal.mend;
    return [failure(`${name}: ${refusal.seen}`, mend)];
  }
  const until = new Date(seen.certificate.validTo);
  const good = `${name}: ${seen.protocol ?? 'TLS'}, the certificate names ${settings.host}, ca trusts it, valid until ${until.toISOString().slice(0, 10)}`;
  const left = until.getTime() - facts.around.now().getTime();
  return [
    ok(good),
    ...(outdated ? [warning(`${name}: the service still serves an older certificate than the file's`, RELOAD)] : []),
    ...(left < WARN_MS
      ? [warning(`${name}: the certificate runs out on ${until.toISOString()}`, `renew it, then ${RELOAD}`)]
      : []),
  ];
}

function broken(name: string, { broken: why, late, crashed }: Handshake, slow: boolean): Finding {
  if (crashed !== undefined) return failure(`${name}: ${crashed}: CredHub would refuse it`, UNREADABLE);
  if (late && slow) return warning(`${name}: no TLS handshake (${why ?? ''}), on a slow host`, AGAIN);
  if (/ENOENT|ECONNREFUSED/.test(why ?? '')) return unseen(`${name}: nobody listens`);
  return failure(`${name}: no TLS handshake (${why ?? 'no certificate'})`, {
    first: ABOVE.first,
    alone:
      "the plugin's log says why; another program may listen there (ss -xlp), and a slow host may be late: run doctor again",
  });
}

/** What CredHub (grpc-java, the Java runtime's own trust manager) says to such a certificate. */
export function refusalOf(
  { refused, certificate }: Handshake,
  host: string,
): { seen: string; mend: string } | undefined {
  if (refused === undefined) return undefined;
  const says = (why: string, java: string): string =>
    `CredHub would refuse the certificate: ${why} ("${java}" in its log)`;
  switch (refused) {
    case 'CERT_HAS_EXPIRED':
      return {
        seen: says(
          `it, or its ca, has run out (${certificate?.validTo ?? ''})`,
          'PKIX path validation failed: validity check failed',
        ),
        mend: `renew the certificate, then ${RELOAD}`,
      };
    case 'CERT_NOT_YET_VALID':
      return {
        seen: says(
          `it, or its ca, begins later (${certificate?.validFrom ?? ''})`,
          'PKIX path validation failed: validity check failed',
        ),
        mend: "set this host's clock, or make the certificate again",
      };
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return {
        seen: says(
          `it does not name ${host} (${certificate?.subjectAltName ?? 'no subject alternative name'})`,
          `No subject alternative DNS name matching ${host} found`,
        ),
        mend: `make the certificate with the DNS subject alternative name ${host}, or set host to a name that it has, here and in CredHub`,
      };
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
      return {
        seen: says(
          'it was not signed by ca',
          'PKIX path building failed: unable to find valid certification path to requested target',
        ),
        mend: 'give ca the CA that signed the certificate, here and in CredHub, or sign the certificate with it',
      };
    default:
      return { seen: `CredHub would refuse the certificate (${refused})`, mend: 'make a new certificate' };
  }
}

function isOutdated({ certificate }: Handshake, { certificateFile }: ListenerTls): boolean {
  try {
    return new X509Certificate(readFileSync(certificateFile)).fingerprint256 !== certificate?.fingerprint256;
  } catch {
    return false;
  }
}
