/** The socket room: claiming a Unix socket's name so that exactly one process serves it. */
export { claimSocket, type ClaimOptions, type SocketClaim, type SocketEndpoint, type Standing } from './claim.ts';
export { SocketError, type SocketTrouble } from './error.ts';
