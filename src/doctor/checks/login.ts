import type { TokenReport } from '../../token/index.ts';
import type { Facts } from '../facts.ts';
import { failure, ok, unseen, warning, type Check, type Finding } from '../types.ts';

const LOOK = 'put the right PIN into pin_file; if the one there is right, run kms-plugin pin clear (docs/pin.md)';

/** Logged in or not, and what is remembered of PINs. Doctor itself never tries a PIN that was refused. */
export const login: Check = {
  name: 'login',
  async run(facts) {
    const view = await facts.token();
    const memory = remembered(facts);
    if (view.by === 'nobody') return [unseen(view.why), ...memory];
    const { report } = view;
    if (report.stage === 'login') return [failure(report.reason, mendFor(report.reason)), ...memory];
    if (report.state !== 'ready') return [unseen(`it stops at the ${report.stage ?? 'token'}`), ...memory];
    if (facts.config?.token.login === 'none') return [ok('no login, as configured (login: none)')];
    return [ok(`logged in to ${report.token?.label ?? 'the token'}`), ...aboutFile(report), ...memory];
  },
};

/** The token process has compared the PIN file with the PIN that is logged in. */
function aboutFile({ pinFile }: TokenReport): Finding[] {
  if (pinFile === undefined) return [];
  const mend =
    'if the PIN was just changed on the token, restart one instance first (docs/pin.md); else put the PIN that is logged in back into pin_file before anything restarts';
  return [warning(pinFile, mend)];
}

function mendFor(reason: string): string {
  if (reason.includes('CKF_PROTECTED_AUTHENTICATION_PATH'))
    return 'set token.pin_despite_flag: true if the PIN in pin_file is right there (Luna with a challenge secret), and restart; PIN pads are not supported';
  if (/CKR_PIN_LOCKED|has locked/.test(reason))
    return "have the HSM's security officer unlock the PIN, then run kms-plugin pin clear";
  if (reason.includes('allows one last try'))
    return "log in once with the HSM's own tool and the right PIN, which resets the count";
  if (reason.includes('CKR_PIN_EXPIRED')) return 'change the PIN on the token and in pin_file';
  if (reason.includes('no user PIN')) return "set the user PIN with the HSM's own tool; the plugin notices";
  if (/damaged|full of/.test(reason))
    return 'make sure that the PIN in pin_file is right, then run kms-plugin pin clear';
  if (/state_dir|ENOSPC|EROFS/.test(reason))
    return 'make room in state_dir, or make it writable for the plugin: without the memory of PINs it tries none';
  if (reason.includes('C_Login'))
    return 'look at the HSM: it failed during the login, and said nothing about the PIN; the plugin goes on trying';
  return LOOK;
}

function remembered(facts: Facts): Finding[] {
  const pins = facts.pins();
  if (pins.kind === 'trouble')
    return [
      failure(
        `the memory of PINs cannot be read: ${pins.why}`,
        'make sure that the PIN in pin_file is right, then run kms-plugin pin clear',
      ),
    ];
  const open = pins.pins.filter(({ settled }) => !settled);
  const refused = open.filter(({ state }) => state === 'refused');
  const cutOff = open.filter(({ state }) => state === 'cut-off');
  return [
    ...refused.map(({ serial, ckr, when }) =>
      warning(
        `a PIN for the token ${serial} was refused (${ckr ?? 'no code'}) at ${when} and is not tried again`,
        `another PIN in pin_file is tried; ${LOOK}`,
      ),
    ),
    ...cutOff.map(({ serial, when }) =>
      warning(
        `a login to the token ${serial} was cut off at ${when}`,
        'if it hangs each time, look at the HSM; kms-plugin pin shows more',
      ),
    ),
  ];
}
