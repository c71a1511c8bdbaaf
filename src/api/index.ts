/** The api room: gRPC services on listeners. The only room that knows gRPC. */
export { roundTripApart, shakeHandsApart } from './apart/apart.ts';
export { roundTrip, RoundTripError, type RoundTrip, type RoundTripOptions } from './client.ts';
export type { Handshake } from './handshake.ts';
export { createApiServer, listenersNeedingRestart } from './server.ts';
export type { KubernetesReport, StatusAnswer, StatusAsked } from './kubernetes.ts';
export type { ApiServer, ApiServerOptions, CallCounts, CallObserver, FinishedCall, ListenerReport } from './types.ts';
