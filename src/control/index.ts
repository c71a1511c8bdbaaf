export type * from './types.ts';
export { createControlServer } from './server.ts';
export { openHealthServer, type Health, type HealthChecks, type HealthServer } from './health.ts';
export { CLIENT_DEADLINE_MS, ControlClient, ControlRefusedError, ServiceUnavailableError } from './client.ts';
