import { RoundTripError } from '../../api/index.ts';
import { WRONG_VALUE, type Trip } from '../facts.ts';
import { ABOVE, failure, ok, unseen, type Check, type Finding } from '../types.ts';

/** One random value through each listener and each of its APIs, as its client would send it. */
export const roundTrips: Check = {
  name: 'round trip',
  async run(facts) {
    const trips = await facts.trips();
    if (facts.config === undefined) return [unseen('the configuration is at fault')];
    const service = await facts.service();
    if (service.kind === 'down' || service.kind === 'stuck') return [unseen(service.message)];
    const view = await facts.token();
    const reached = view.by !== 'nobody' && view.report.state === 'ready';
    return trips.map((trip) => examine(trip, reached));
  },
};

function examine({ listener, api, result }: Trip, reached: boolean): Finding {
  const name = `${listener.name}, ${api}`;
  if (!(result instanceof Error)) {
    const round = (milliseconds: number): number => Math.round(milliseconds * 10) / 10;
    return ok(`${name}: encrypted in ${round(result.encryptMs)} ms, decrypted in ${round(result.decryptMs)} ms`);
  }
  if (!(result instanceof RoundTripError))
    return failure(`${name}: ${result.message}`, 'mend the listener in the configuration');
  if (result.status === 'not called') return unseen(result.message, 'set tls.ca and tls.host to what CredHub has');
  // gRPC's own account of where the time went is for those who develop it.
  const message = result.status === 'DEADLINE_EXCEEDED' ? `${result.step}: no answer in time` : result.message;
  return failure(`${name}: ${message}`, reached ? mendFor(result.status, result.message) : ABOVE);
}

function mendFor(status: string, message: string): string {
  if (message.includes(WRONG_VALUE)) {
    return "stop clients from writing (stop CredHub): what is written now may be lost; the HSM or its client software gives wrong answers, see its vendor's log";
  }
  const code = /\[(KMS-\d+)\]/.exec(message)?.[1];
  const more = code === undefined ? '' : ` (docs/errors.md has ${code})`;
  switch (status) {
    case 'RESOURCE_EXHAUSTED':
      return `more calls than limits.in_flight and limits.queued allow, or a value above limits.value: find who sends them${more}`;
    case 'DEADLINE_EXCEEDED':
      return `the HSM is slow or does not answer, or calls queue: compare latencies and queue in kms-plugin status${more}`;
    case 'INTERNAL':
      return `look at the plugin's log${more}; update the plugin or the HSM's client software`;
    case 'FAILED_PRECONDITION':
      return `the token or a key is not as configured${more}: mend what fails above first, else look at the plugin's log`;
    default:
      return `mend what fails above first; if nothing does, look at the plugin's log${more}`;
  }
}
