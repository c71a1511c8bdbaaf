import { FAILURES, type FailureKind } from '../../errors/index.ts';
import type { StatusReport } from '../../control/index.ts';
import type { RecentError } from '../../recent/index.ts';
import { after, failure, ok, unseen, warning, type Check, type Finding, type Mend } from '../types.ts';

/** What a client met in the last hour, though all may look well: by code, with the keys that were asked for. */
export const failedCalls: Check = {
  name: 'failed calls',
  async run(facts) {
    const service = await facts.service();
    if (service.kind !== 'up') return [unseen(service.message, 'its log has them')];
    const { recent } = service.status;
    const { minutes, requests, errorCodes } = recent.last60;
    const looked = errorCodes.flatMap((error) => examine(error, service.status));
    if (looked.length > 0) return looked;
    return [ok(`none of ${requests} in the last ${minutes} min`)];
  },
};

/** A client that goes away is its own affair. */
const HARMLESS: ReadonlySet<string> = new Set([FAILURES.cancelled.code, FAILURES['shutting-down'].code]);

interface Advice {
  /**
   * 'state': the trouble is one of the token, of its keys or of the load, which other lines show as it is now: over, when
   * they do not. 'content': what was asked for is at fault, and stays so whatever the lines above say.
   */
  readonly about: 'state' | 'content';
  readonly mend: string | Mend;
}

const OVER = after('mend what fails above', "over, if no more come: the plugin's log says which were the last");

/** A row for each kind of failure that a call can end in; docs/errors.md says more of each. */
const ADVICE: Readonly<Record<Exclude<FailureKind, 'cancelled' | 'shutting-down' | 'foreign-ciphertext'>, Advice>> = {
  'token-away': { about: 'state', mend: OVER },
  'token-starting': { about: 'state', mend: OVER },
  'pin-refused': { about: 'state', mend: OVER },
  'pin-not-initialized': { about: 'state', mend: OVER },
  'module-limit': {
    about: 'content',
    mend: 'report it with the log line, which has the lengths; scheme: { name: envelope } keeps values out of the HSM',
  },
  'iv-refused': {
    about: 'content',
    mend: 'take the HSM out of use and call its vendor: its random numbers cannot be trusted; nothing was encrypted with that IV',
  },
  'poisonous-request': {
    about: 'content',
    mend: "give the HSM's vendor the log line; other calls go on, an upgrade of the client software is the likeliest way out",
  },
  'module-misuse': {
    about: 'content',
    mend: "report it with the log line; an upgrade of the HSM's client software may help",
  },
  'key-not-listed': {
    about: 'content',
    mend: 'list the label of that key under keys with state: decrypt (an older configuration or deployment has it) and reload; the values are safe as long as the HSM has the key',
  },
  'key-missing': {
    about: 'state',
    mend: "see whether this is the right partition (kms-plugin status shows its serial number), and restore that key from the HSM's backup",
  },
  'key-unable': { about: 'state', mend: 'kms-plugin keys inspect LABEL shows what is wrong with that key' },
  'key-ambiguous': { about: 'state', mend: OVER },
  'key-retired': {
    about: 'content',
    mend: 'something still needs that key: take its id out of retired_keys and list its label with state: decrypt before CredHub writes anything (docs/errors.md, KMS-3005)',
  },
  'retired-undecided': { about: 'state', mend: OVER },
  'key-create-refused': { about: 'state', mend: OVER },
  'key-replaced': { about: 'state', mend: OVER },
  'key-not-made': { about: 'state', mend: OVER },
  unproven: {
    about: 'content',
    mend: 'if one value fails again and again while others work, it was changed: restore its row in the database; else the HSM was in trouble at that time',
  },
  'malformed-ciphertext': {
    about: 'content',
    mend: 'a stored value is damaged (a column that is too short cuts it): restore it from a backup of the database',
  },
  'unknown-format': { about: 'content', mend: 'a newer release wrote that value: go back to the newer release' },
  'not-authentic': {
    about: 'content',
    mend: 'a stored value was changed: restore it from a backup, and find out who can write to the database',
  },
  'wrong-version': { about: 'content', mend: 'point that client to a listener with the API that it speaks' },
  'key-id-mismatch': { about: 'content', mend: 'etcd holds an object whose parts do not belong together: restore it' },
  'annotations-mismatch': {
    about: 'content',
    mend: "another KMS plugin made that object: keep it in kube-apiserver's EncryptionConfiguration until everything is rewritten",
  },
  'value-too-large': {
    about: 'content',
    mend: 'raise limits.value and limits.message, or set large_values: data-key (docs/errors.md, KMS-5004)',
  },
  'queue-full': {
    about: 'state',
    mend: 'more calls came than the HSM could do: compare latencies and queue in kms-plugin status and in monitoring',
  },
  'memory-full': {
    about: 'state',
    mend: 'a client floods the plugin: the log names the listener; see who may open its socket (ss -xp)',
  },
  deadline: {
    about: 'state',
    mend: 'the HSM was slow or silent, or calls queued: compare latencies and queue in kms-plugin status and in monitoring',
  },
  internal: { about: 'content', mend: 'report it with the log line and its stack' },
};

const BY_CODE: ReadonlyMap<string, Advice> = new Map(
  Object.entries(ADVICE).map(([kind, advice]) => [FAILURES[kind as FailureKind].code, advice]),
);
/** What to do about a code that stays whatever the lines above say; undefined where those lines show the trouble itself. */
export function adviceOnContent(code: string): string | Mend | undefined {
  const advice = BY_CODE.get(code);
  return advice?.about === 'content' ? advice.mend : undefined;
}

const NOT_LISTED: string = FAILURES['key-not-listed'].code;

/** What still comes in the last minutes fails calls now; what has ceased is told, so that it can be looked into. */
function examine({ code, count, keyIds = [] }: RecentError, { recent, keys }: StatusReport): Finding[] {
  if (HARMLESS.has(code)) return [];
  const advice = BY_CODE.get(code) ?? { about: 'content', mend: "look at the plugin's log" };
  const about = keyIds.length === 0 ? '' : `, asked for key ${keyIds.join(', ')}`;
  const { minutes, requests } = recent.last60;
  const seen = `${count} of ${requests} calls in the last ${minutes} min failed with ${code}${about}`;
  if (advice.about === 'state') return [warning(seen, advice.mend)];
  if (code === NOT_LISTED && keyIds.length > 0) {
    const listed = new Set(keys.flatMap(({ found }) => found.flatMap((each) => each.keyIds)));
    if (keyIds.every((keyId) => listed.has(keyId)))
      return [
        warning(`${seen}, which is listed by now`, 'over, unless CredHub met it at its start: see whether it serves'),
      ];
  }
  const goesOn = recent.last5.errorCodes.some((each) => each.code === code);
  return [goesOn ? failure(seen, advice.mend) : warning(`${seen}, none in the last 5 min`, advice.mend)];
}
