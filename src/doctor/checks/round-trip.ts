import { RoundTripError } from '../../api/index.ts';
import { WRONG_VALUE, type TokenView, type Trip } from '../facts.ts';
import { AGAIN } from '../words.ts';
import { adviceOnContent } from './failed-calls.ts';
import { ABOVE, failure, ok, unseen, warning, type Check, type Finding, type Mend } from '../types.ts';

/** One random value through each listener and each of its APIs, as its client would send it. */
export const roundTrips: Check = {
  name: 'round trip',
  async run(facts) {
    const trips = await facts.trips();
    if (facts.config === undefined) return [unseen('the configuration is at fault')];
    const service = await facts.service();
    if (service.kind === 'down' || service.kind === 'stuck' || service.kind === 'slow')
      return [unseen(service.message)];
    const view = await facts.token();
    return trips.map((trip) => examine(trip, view, facts.isSlow));
  },
};

function examine({ listener, api, result }: Trip, view: TokenView, slow: boolean): Finding {
  const name = `${listener.name}, ${api}`;
  if (!(result instanceof Error)) {
    const round = (milliseconds: number): number => Math.round(milliseconds * 10) / 10;
    return ok(`${name}: encrypted in ${round(result.encryptMs)} ms, decrypted in ${round(result.decryptMs)} ms`);
  }
  if (!(result instanceof RoundTripError))
    return failure(`${name}: ${result.message}`, 'mend the listener in the configuration');
  if (result.status === 'not called') return unseen(result.message, 'set tls.ca and tls.host to what CredHub has');
  if (result.status === 'client crashed') return failure(`${name}: ${result.details}`, ABOVE);
  const health = view.by === 'nobody' ? undefined : view.health;
  if (result.status === 'DEADLINE_EXCEEDED') {
    // On a patient connection a call waits for the token, or for a key, instead of failing.
    if (health?.ok === false) return failure(`${name}: ${result.step}: it waits for: ${health.reason}`, ABOVE);
    if (slow) return warning(`${name}: ${result.step}: no answer in time, on a slow host`, AGAIN);
    return failure(`${name}: ${result.step}: no answer in time`, mendFor(result));
  }
  return failure(`${name}: ${result.message}`, health?.ok === false ? ABOVE : mendFor(result));
}

function mendFor({ status, message }: RoundTripError): string | Mend {
  if (message.includes(WRONG_VALUE)) {
    return "stop clients from writing (stop CredHub): what is written now may be lost; the HSM or its client software gives wrong answers, see its vendor's log";
  }
  const code = /\[(KMS-\d+)\]/.exec(message)?.[1];
  const known = code === undefined ? undefined : adviceOnContent(code);
  if (known !== undefined) return known;
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
