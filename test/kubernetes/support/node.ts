/** A control plane node as docs/kubernetes.md has an operator prepare it, below a directory of its own, with SoftHSM2 as its HSM. */
import {
  chmodSync,
  chownSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { stringify } from 'yaml';
import type { Raw } from '../../config/fixtures.ts';
import { makeSoftHsm, run, softHsmModule, type Hsm } from '../../hsm/index.ts';
import { configuration, pod, type Pod } from './manifests.ts';

/** Where this node has what a real one has under /. */
export class ClusterNode {
  readonly directory = mkdtempSync('/tmp/node-');
  readonly pod: Pod;
  /** The HSM's library on the machine that runs the tests. */
  readonly module = softHsmModule();
  #hsm: Hsm | undefined;

  constructor() {
    const { spec, ...rest } = pod();
    const [container] = spec.containers;
    // SoftHSM2 is a directory of files, which it writes: a real HSM has no such volume.
    const tokens = { name: 'tokens', hostPath: { path: '/var/lib/softhsm', type: 'Directory' } };
    const mount = { name: 'tokens', mountPath: '/var/lib/softhsm' };
    this.pod = {
      ...rest,
      spec: {
        ...spec,
        containers: [{ ...container, volumeMounts: [...container.volumeMounts, mount] }],
        volumes: [...spec.volumes, tokens],
      },
    };
  }

  get user(): number {
    return this.pod.spec.securityContext.runAsUser;
  }

  /** Where a path of the node really is. */
  at(place: string): string {
    return path.join(this.directory, place);
  }

  /** Directories, PIN, HSM client, configuration and a token with the keys: owners and modes as in the documentation. */
  async prepare(keys: readonly string[]): Promise<void> {
    const { user } = this;
    for (const [directory, mode, owner] of [
      ['/etc/kms-plugin', 0o750, 0],
      ['/var/lib/kms-plugin/state', 0o700, user],
      ['/var/lib/kms-plugin/socket', 0o700, user],
      ['/opt/hsm/lib', 0o755, 0],
    ] as const) {
      mkdirSync(this.at(directory), { recursive: true });
      chmodSync(this.at(directory), mode);
      chownSync(this.at(directory), owner, user);
    }
    chmodSync(this.directory, 0o755);
    this.#hsm = await makeSoftHsm({ label: 'kubernetes' });
    await this.#hsm.makeKeys(Object.fromEntries(keys.map((label) => [label, {}])));
    this.#write('pin', this.#hsm.pin, 0o400, user);
    this.#write('softhsm2.conf', 'directories.tokendir = /var/lib/softhsm\nlog.level = ERROR\n', 0o640, 0);
    await this.#client(this.#hsm);
    this.configure();
  }

  /** Writes the configuration: the one in manifests/, with what `change` does to it. */
  configure(change: (raw: Raw) => void = () => undefined): void {
    const raw = configuration();
    change(raw);
    this.#write('kms-plugin.yml', stringify(raw), 0o640, 0);
  }

  #write(name: string, contents: string, mode: number, owner: number): void {
    const file = this.at(path.join('/etc/kms-plugin', name));
    rmSync(file, { force: true });
    writeFileSync(file, contents);
    chownSync(file, owner, this.user);
    chmodSync(file, mode);
  }

  /** The vendor's library under the name that the configuration has, what it is linked with, and the token. */
  async #client({ module, directory }: Hsm): Promise<void> {
    copyFileSync(module, this.at('/opt/hsm/lib/libpkcs11.so'));
    for (const [, library] of (await run(['ldd', module])).matchAll(/=> (\/\S*libcrypto\S*)/g)) {
      if (library !== undefined) copyFileSync(library, this.at(`/opt/hsm/lib/${path.basename(library)}`));
    }
    const tokens = this.at('/var/lib/softhsm');
    cpSync(path.join(directory, 'tokens'), tokens, { recursive: true });
    for (const entry of ['', ...readdirSync(tokens, { recursive: true, encoding: 'utf8' })]) {
      chownSync(path.join(tokens, entry), this.user, this.user);
    }
  }

  async remove(): Promise<void> {
    await this.#hsm?.cleanup();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
