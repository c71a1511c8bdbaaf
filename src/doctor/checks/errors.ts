import type { Facts } from '../facts.ts';
import { ok, unseen, warning, type Check, type Finding } from '../types.ts';

const RECENT_MS = 3_600_000;

/** What went wrong lately, though it may be well by now, and what the service itself warns of. */
export const errors: Check = {
  name: 'last errors',
  async run(facts) {
    const service = await facts.service();
    if (service.kind !== 'up') return [unseen(service.message, 'its log has them')];
    const { status } = service;
    const known = new Set(facts.configCheck.warnings);
    const own = status.warnings.filter((text) => !known.has(text));
    const findings = [
      ...lastError(status.token.lastError, facts),
      ...own.map((text) => warning(text, 'docs/configuration.md and docs/errors.md say more')),
    ];
    return findings.length > 0 ? findings : [ok('none in the last hour')];
  },
};

function lastError(last: { readonly at: string; readonly message: string } | undefined, facts: Facts): Finding[] {
  if (last === undefined || facts.around.now().getTime() - Date.parse(last.at) > RECENT_MS) return [];
  return [warning(`at ${last.at}: ${last.message}`, 'if nothing fails above it is over; the log has what was before')];
}
