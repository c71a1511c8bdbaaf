import type { TokenReport } from '../../token/index.ts';
import { failure, ok, unseen, warning, type Check, type Finding } from '../types.ts';

/** A service that has just started reaches its token within this time, in milliseconds. */
const START_MS = 15_000;

/** Slot and token: found, and what its flags say. */
export const token: Check = {
  name: 'token',
  async run(facts) {
    const view = await facts.token();
    if (view.by === 'nobody') return [unseen(view.why)];
    const { report } = view;
    const { stage } = report;
    if (stage === 'token') {
      const age = facts.around.now().getTime() - Date.parse(report.process.started ?? '');
      if (report.state === 'starting' && age < START_MS)
        return [warning(`not reached yet: ${report.reason}`, 'wait a few seconds and run doctor again')];
      return [failure(report.reason, mendFor(report.reason))];
    }
    const found = described(report);
    if (found === undefined)
      return [unseen(stage === undefined ? 'the token has told nothing of itself' : `it stops at the ${stage}`)];
    return [ok(found), ...flagged(report)];
  },
};

function mendFor(reason: string): string {
  if (reason.includes('CKR_TOKEN_NOT_PRESENT') && !reason.includes('no token at all'))
    return "correct token.partition, or the HSM client's own configuration: the line shows which tokens the module sees";
  if (reason.includes('choose one by')) return 'set token.partition to the serial number of the one that is meant';
  return "see with the vendor's own tool whether the HSM is up and reachable from this host; the plugin goes on trying and recovers by itself";
}

function described({ token: found, profile, sessions }: TokenReport): string | undefined {
  if (found === undefined) return undefined;
  const { label, serial, slot, manufacturer, model, firmware, flags } = found;
  const more = [
    ...(profile === undefined ? [] : [`profile ${profile}`]),
    ...(sessions === undefined ? [] : [`${sessions.open} of ${sessions.limit} sessions`]),
  ].join(', ');
  return `"${label}", serial ${serial}, slot ${slot}: ${manufacturer} ${model}, firmware ${firmware}${more === '' ? '' : `, ${more}`}; flags: ${flags.join(', ') || 'none'}`;
}

function flagged({ token: found }: TokenReport): Finding[] {
  const flags = new Set(found?.flags);
  if (flags.has('user PIN locked'))
    return [
      failure(
        'the token has locked its user PIN',
        "have the HSM's security officer unlock it, then run kms-plugin pin clear",
      ),
    ];
  if (flags.has('user PIN final try')) {
    return [
      failure(
        'one more wrong PIN locks the token (CKF_USER_PIN_FINAL_TRY)',
        "log in once with the HSM's own tool and the right PIN, which resets the count; the plugin leaves that try to a person",
      ),
    ];
  }
  if (flags.has('user PIN count low')) {
    return [
      warning(
        'somebody gave the token a wrong PIN since the last good login (CKF_USER_PIN_COUNT_LOW)',
        "find out who; log in once with the HSM's own tool and the right PIN, which resets the count",
      ),
    ];
  }
  if (flags.has('user PIN to be changed'))
    return [warning('the token wants its user PIN changed', 'change it, one instance first (docs/pin.md)')];
  return [];
}
