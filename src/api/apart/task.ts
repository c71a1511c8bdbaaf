import type { ListenerConfig } from '../../config/index.ts';
import type { RoundTrip, RoundTripOptions, Step } from '../client.ts';
import type { Handshake, HandshakeOptions } from '../handshake.ts';

/** What a client process is asked for, once. */
export type Task =
  | { readonly kind: 'round trip'; readonly listener: ListenerConfig; readonly options: RoundTripOptions }
  | { readonly kind: 'handshake'; readonly options: HandshakeOptions };

/** What it answers, once. An error's class does not survive the way between two processes. */
export type Answer =
  | { readonly kind: 'round trip'; readonly trip: RoundTrip }
  | { readonly kind: 'failed'; readonly step: Step; readonly status: string; readonly details: string }
  | { readonly kind: 'handshake'; readonly handshake: Handshake }
  | { readonly kind: 'error'; readonly message: string };
