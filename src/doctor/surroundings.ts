import { slowness } from './look/pace.ts';
import type { Process } from './look/processes.ts';
import type { Log } from '../log/index.ts';
import type { Config } from '../config/index.ts';
import type { Keyring } from '../keyring/index.ts';
import type { Token } from '../token/index.ts';

/** A token process of doctor's own, for when the service is down. */
export type WithOwnToken = <T>(
  config: Config,
  log: Log,
  work: (own: { readonly token: Pick<Token, 'report'>; readonly keyring: Keyring }) => Promise<T>,
) => Promise<T>;

/** Where doctor looks; tests put other places there. */
export interface Surroundings {
  readonly withOwnToken: WithOwnToken;
  readonly proc: string;
  readonly cgroup: string;
  /** The directory of CredHub's application configuration, as its BOSH job lays it out. */
  readonly credhub: string;
  /** CredHub's own start takes so long, in seconds: before, a port that nobody listens on proves nothing. */
  readonly credhubStart: number;
  now(): Date;
  /** How many times slower than an idle one this host is, as the kernel tells of doctor's own process. */
  slowness(self: Process): number;
}

export const SURROUNDINGS: Omit<Surroundings, 'withOwnToken'> = {
  proc: '/proc',
  cgroup: '/sys/fs/cgroup',
  credhub: '/var/vcap/jobs/credhub/config/application',
  credhubStart: 90,
  now: () => new Date(),
  slowness,
};
