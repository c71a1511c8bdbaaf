/**
 * `serve` as a process of its own, with the real listeners, control socket and health port, and a keyring without an
 * HSM: fake-service.ts CONFIG AVAILABILITY. keys create LABEL misbehaves as LABEL says.
 */
import { explain } from '../../src/cli/explain.ts';
import { serve, type OwnedKeyring, type Parts } from '../../src/service/index.ts';
import type { FoundKeyReport, KeyReport } from '../../src/keyring/index.ts';
import type { Token } from '../../src/token/index.ts';
import { FakeKeyring } from '../api/support/keyring.ts';
import { CREATED, KEY, STATUS } from '../control/fakes.ts';

const [config = '', availability = 'ready'] = process.argv.slice(2);

class FakeOwnedKeyring extends FakeKeyring implements OwnedKeyring {
  override keys() {
    return [KEY];
  }
  start(): void {
    this.availability = availability === 'away' ? 'away' : 'ready';
    if (availability === 'slow') this.before = () => new Promise((resolve) => setTimeout(resolve, 700));
    this.changed();
  }
  reload(): void {
    this.changed();
  }
  createKey(label: string): Promise<FoundKeyReport> {
    if (label === 'throw') setTimeout(() => nonsense('thrown by nobody'));
    if (label === 'reject') void Promise.reject(new Error('not waited for'));
    return Promise.resolve(CREATED.key);
  }
  searchedKeys(): Promise<readonly KeyReport[]> {
    return Promise.resolve(this.keys());
  }
  inspect(): Promise<KeyReport> {
    return Promise.resolve(KEY);
  }
  warnings(): string[] {
    return [];
  }
  dataKeys() {
    return { cached: 0, hits: 0, misses: 0, made: 0 };
  }
  ivCount(): number {
    return 0;
  }
  close(): Promise<void> {
    this.availability = 'away';
    return Promise.resolve();
  }
}

function nonsense(message: string): never {
  throw new Error(message);
}

const parts: Parts = {
  createToken: () =>
    ({
      report: () => STATUS.token,
      reconnect: () => undefined,
      probe: () => Promise.resolve(),
    }) as unknown as Token,
  createKeyring: () => new FakeOwnedKeyring(),
};

serve(config, parts).then(
  (status) => process.exit(status),
  (error: unknown) => {
    const { message, exit } = explain(error);
    console.error(message);
    process.exit(exit);
  },
);
