/** The api room: gRPC services on listeners. The only room that knows gRPC. */
export type { ApiServer, ApiServerOptions, CallCounts, CallObserver, FinishedCall, ListenerReport } from './types.ts';
