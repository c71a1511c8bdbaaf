import type { ApiServer } from '../api/index.ts';
import type { Health } from '../control/index.ts';

const OK: Health = { ok: true, reason: 'ok' };

/**
 * Whether a restart could help new clients: false when a listener's socket has lost its name. A name that cannot be
 * looked at (a directory without x for this user) is no such case: a restart would end the connections that work, and
 * then fail.
 */
export function socketsStand(api: Pick<ApiServer, 'standings'>): Health {
  for (const { name, endpoint, standing } of api.standings()) {
    if (standing === 'gone') {
      return { ok: false, reason: `the socket ${endpoint} of listener ${name} is gone: restart the service` };
    }
    if (standing === 'taken') {
      const mend = `see who made it (ss -xlp), stop that program, then restart the service`;
      return { ok: false, reason: `${endpoint} is not the socket of listener ${name} any more, but another: ${mend}` };
    }
  }
  return OK;
}

/** Whether new clients find every listener, as far as the file system tells. */
export function socketsReachable(api: Pick<ApiServer, 'standings'>): Health {
  const stand = socketsStand(api);
  if (!stand.ok) return stand;
  for (const { name, endpoint, standing } of api.standings()) {
    if (typeof standing !== 'object') continue;
    const mend = 'make its directory reachable for this user and its clients; open connections go on';
    return {
      ok: false,
      reason: `the socket ${endpoint} of listener ${name} cannot be looked at (${standing.trouble}): ${mend}`,
    };
  }
  return OK;
}
