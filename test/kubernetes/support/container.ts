/** Runs an unpacked image by runc, with all that the pod asks of a container engine. */
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Image } from './image.ts';
import type { Container as ContainerSpec } from './manifests.ts';
import type { ClusterNode } from './node.ts';
import { defaultSeccomp } from './seccomp.ts';

interface RuncConfig {
  process: { terminal: boolean; args: string[]; [setting: string]: unknown };
  root: { path: string; readonly?: boolean };
  mounts: { destination: string; type: string; source: string; options?: string[] }[];
  linux: { namespaces: { type: string }[]; resources: Record<string, unknown>; [setting: string]: unknown };
}

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

let count = 0;

export class Container {
  readonly #image: Image;
  readonly #node: ClusterNode;
  readonly #id = `kms-plugin-test-${process.pid}-${count++}`;
  #serving: { child: ChildProcess; ended: Promise<number | null> } | undefined;
  log = '';

  constructor(image: Image, node: ClusterNode) {
    if (process.getuid?.() !== 0) throw new Error('runc starts containers for root only: run this test as root');
    this.#image = image;
    this.#node = node;
  }

  /** Starts the pod's container; `args` in place of its own. */
  start(args?: readonly string[]): Promise<number | null> {
    this.#configure(args ?? this.spec.args);
    const child = spawn('runc', ['run', '--bundle', this.#image.bundle, this.#id], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [child.stdout, child.stderr])
      stream.on('data', (chunk: Buffer) => (this.log += chunk.toString()));
    const ended = new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    });
    this.#serving = { child, ended };
    return ended;
  }

  /** Runs a program in the running container, as its user. */
  exec(...command: string[]): Promise<Ran> {
    return spawned('runc', ['exec', this.#id, ...command]);
  }

  /** As a container engine ends a pod. @returns the exit status. */
  async terminate(): Promise<number | null> {
    await spawned('runc', ['kill', this.#id, 'TERM']);
    return (await this.#serving?.ended) ?? null;
  }

  async remove(): Promise<void> {
    await spawned('runc', ['delete', '--force', this.#id]);
    await this.#serving?.ended;
  }

  get spec(): ContainerSpec {
    return this.#node.pod.spec.containers[0];
  }

  /** What umoci derived from the image (entry point, environment, user), and the pod's wishes. */
  #configure(args: readonly string[]): void {
    const file = path.join(this.#image.bundle, 'config.json');
    const config = JSON.parse(readFileSync(file, 'utf8')) as RuncConfig;
    const { spec } = this.#node.pod;
    const { securityContext, volumeMounts, resources } = this.spec;
    if (securityContext.capabilities.drop.join() !== 'ALL' || securityContext.capabilities.add !== undefined) {
      throw new Error('the pod keeps capabilities: this test drops them all');
    }
    const [entrypoint = ''] = config.process.args;
    Object.assign(config.process, {
      terminal: false,
      args: [entrypoint, ...args],
      user: { uid: spec.securityContext.runAsUser, gid: spec.securityContext.runAsGroup },
      capabilities: { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] },
      noNewPrivileges: !securityContext.allowPrivilegeEscalation,
    });
    config.root.readonly = securityContext.readOnlyRootFilesystem;
    config.mounts = config.mounts.filter(
      ({ destination }) => !volumeMounts.some((mount) => mount.mountPath === destination),
    );
    for (const { name, mountPath, readOnly } of volumeMounts) {
      const volume = spec.volumes.find((each) => each.name === name);
      if (volume === undefined) throw new Error(`the pod has no volume ${name}`);
      const source = this.#node.at(volume.hostPath.path);
      const options = ['bind', readOnly === true ? 'ro' : 'rw', 'nosuid', 'nodev'];
      config.mounts.push({ destination: mountPath, type: 'bind', source, options });
    }
    if (spec.hostNetwork) config.linux.namespaces = config.linux.namespaces.filter(({ type }) => type !== 'network');
    if (spec.securityContext.seccompProfile.type === 'RuntimeDefault') config.linux['seccomp'] = defaultSeccomp();
    config.linux.resources['memory'] = { limit: bytes(resources.limits.memory) };
    writeFileSync(file, JSON.stringify(config));
  }
}

/** Kubernetes' Mi. */
export function bytes(quantity: string): number {
  const [, mebibytes] = /^(\d+)Mi$/.exec(quantity) ?? [];
  if (mebibytes === undefined) throw new Error(`${quantity} is no number of Mi`);
  return Number(mebibytes) * 1024 * 1024;
}

function spawned(program: string, args: readonly string[]): Promise<Ran> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, stdout, stderr }));
  });
}
