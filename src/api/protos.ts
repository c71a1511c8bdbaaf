import path from 'node:path';
import type { ServiceDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

/** The three interfaces served here, from their .proto files. */
export interface ServiceDefinitions {
  readonly v1beta1: ServiceDefinition;
  readonly v2: ServiceDefinition;
  readonly health: ServiceDefinition;
}

/** Full names, as the health service calls them. */
export const SERVICE_NAMES = { v1beta1: 'v1beta1.KeyManagementService', v2: 'v2.KeyManagementService' } as const;

/**
 * Reads the .proto files beside this file (beside the bundle in a release). Field names stay as written, enums are
 * strings, absent fields have their defaults.
 */
export function loadServiceDefinitions(): ServiceDefinitions {
  const directory = path.join(import.meta.dirname, 'proto');
  const files = ['v1beta1.proto', 'v2.proto', 'health.proto'].map((name) => path.join(directory, name));
  const definitions = loadSync(files, { keepCase: true, defaults: true, enums: String });
  const service = (name: string): ServiceDefinition => {
    const definition = definitions[name];
    if (definition === undefined || 'format' in definition) throw new Error(`no service ${name} in ${directory}`);
    return definition;
  };
  return {
    v1beta1: service(SERVICE_NAMES.v1beta1),
    v2: service(SERVICE_NAMES.v2),
    health: service('grpc.health.v1.Health'),
  };
}
