import { access } from './checks/access.ts';
import { clock } from './checks/clock.ts';
import { configuration } from './checks/configuration.ts';
import { credhub } from './checks/credhub.ts';
import { disk } from './checks/disk.ts';
import { errors } from './checks/errors.ts';
import { failedCalls } from './checks/failed-calls.ts';
import { healthPort } from './checks/health-port.ts';
import { host } from './checks/host.ts';
import { key } from './checks/key.ts';
import { kubernetes } from './checks/kubernetes.ts';
import { limits } from './checks/limits.ts';
import { login } from './checks/login.ts';
import { module } from './checks/module.ts';
import { plugin } from './checks/plugin.ts';
import { roundTrips } from './checks/round-trip.ts';
import { socket } from './checks/socket.ts';
import { stateDir } from './checks/state-dir.ts';
import { tls } from './checks/tls.ts';
import { token } from './checks/token.ts';
import { tokenProcess } from './checks/token-process.ts';
import type { Check } from './types.ts';

/**
 * Every check, in the order of a request's way from outside in; what surrounds that way comes after it. The first
 * failure in this order is what to mend first.
 */
export const CHECKS: readonly Check[] = [
  ...[configuration, stateDir, socket, tls, plugin, tokenProcess, module, token, login, key, roundTrips, failedCalls],
  ...[access, healthPort, kubernetes, clock, disk, host, limits, errors, credhub],
];
