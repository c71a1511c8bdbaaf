/** The files under manifests/kubernetes as an operator copies them. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import type { Raw } from '../../config/fixtures.ts';

const directory = path.resolve(import.meta.dirname, '../../../manifests/kubernetes');

/** EncryptionConfigurations, one a file. */
export const encryptionDirectory = path.join(directory, 'encryption');

export interface Volume {
  readonly name: string;
  readonly hostPath: { readonly path: string; readonly type: string };
}

export interface Probe {
  readonly httpGet: { readonly host: string; readonly port: number; readonly path: string };
}

export interface Container {
  readonly image: string;
  readonly args: readonly string[];
  readonly securityContext: {
    readonly allowPrivilegeEscalation: boolean;
    readonly readOnlyRootFilesystem: boolean;
    readonly capabilities: { readonly drop: readonly string[]; readonly add?: readonly string[] };
  };
  readonly livenessProbe: Probe;
  readonly readinessProbe: Probe;
  readonly resources: { readonly limits: { readonly memory: string } };
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean }[];
}

export interface Pod {
  readonly kind: string;
  readonly metadata: { readonly namespace: string };
  readonly spec: {
    readonly hostNetwork: boolean;
    readonly priorityClassName: string;
    readonly terminationGracePeriodSeconds: number;
    readonly securityContext: {
      readonly runAsNonRoot: boolean;
      readonly runAsUser: number;
      readonly runAsGroup: number;
      readonly seccompProfile: { readonly type: string };
    };
    readonly containers: readonly [Container];
    readonly volumes: readonly Volume[];
  };
}

export const pod = (): Pod => parse(readFileSync(path.join(directory, 'kms-plugin.pod.yaml'), 'utf8')) as Pod;

/** The plugin's configuration, before an operator puts in their HSM. */
export const configuration = (): Raw => parse(readFileSync(path.join(directory, 'kms-plugin.yml'), 'utf8')) as Raw;
