import { RoundTripError } from '../../api/index.ts';
import type { Facts, SeenToken } from '../facts.ts';
import { AGAIN } from '../words.ts';
import { failure, ok, unseen, warning, type Check, type Finding } from '../types.ts';

/** A start within this time counts as recent, in milliseconds. */
const RECENT_MS = 3_600_000;

/** A token process that the plugin says has not answered is at least so old, in milliseconds. */
const HUNG_MS = 6_000;
const HANGS = failure(
  'it lives, but no call comes back from the PKCS#11 module: it hangs in the HSM, the network to it, or the client library',
  "look at the HSM and the vendor's client log; the plugin ends the process by itself after 30 s or twice token.vendor_timeout and tries again",
);

/** The process that holds the vendor's module: alive, answering, not restarted lately. */
export const tokenProcess: Check = {
  name: 'token process',
  async run(facts) {
    const view = await facts.token();
    if (view.by === 'nobody') return [unseen(view.why)];
    const { report } = view;
    const { pid, restarts, replaced, lastRestart } = report.process;
    const child = view.by === 'service' ? await facts.tokenProcess() : undefined;
    if (child?.stuck !== undefined)
      return [failure(`process ${pid ?? ''} ${child.stuck}`, 'end it (kill -9): the plugin starts a successor')];
    if (report.stage === 'token process') {
      // One that crashes has a successor at once; one that hangs grows old.
      const age = child?.age(facts.around.proc);
      if (age !== undefined && age * 1_000 >= HUNG_MS) return [HANGS];
      const mend =
        "the vendor's module ends the process: look for its words in the plugin's log, update or replace the HSM's client software";
      return [failure(report.reason, mend)];
    }
    if (view.by === 'doctor') return [ok("the service is down; doctor's own token process starts and answers")];
    const silent = report.state === 'ready' ? await hungCall(facts, view) : undefined;
    if (silent !== undefined) return [silent];
    const onPurpose = replaced === 0 ? '' : `, ${replaced} replaced on purpose while the token was away`;
    return [
      ok(`process ${pid ?? 'none'} answers, ${restarts} restarts${onPurpose}`),
      ...recently(restarts, lastRestart, facts),
    ];
  },
};

/**
 * A value that does not come back, though token and key count as ready: native code hangs, while the process still beats.
 * Where they are not ready by now the call waited for that, and where the HSM gave a good answer meanwhile it does not hang.
 */
async function hungCall(facts: Facts, { report, health }: SeenToken): Promise<Finding | undefined> {
  const trips = await facts.trips();
  const late = trips.filter(({ result }) => result instanceof RoundTripError && result.status === 'DEADLINE_EXCEEDED');
  if (late.length === 0 || late.length < trips.length || !health.ok) return undefined;
  const began = facts.around.now().getTime() - (performance.now() - facts.began);
  if (report.lastGood !== undefined && Date.parse(report.lastGood) >= began) return undefined;
  if (facts.isSlow) return warning('no call came back in time, on a slow host: that proves nothing', AGAIN);
  return HANGS;
}

function recently(restarts: number, lastRestart: string | undefined, facts: Facts): Finding[] {
  if (lastRestart === undefined) return [];
  if (facts.around.now().getTime() - Date.parse(lastRestart) > RECENT_MS) return [];
  const seen = `the one before ended by itself or hung at ${lastRestart}, ${restarts} times since the service started`;
  return [
    warning(seen, "calls were sent again, nothing is lost; the plugin's log says how the one before ended (KMS-2001)"),
  ];
}
